"""Tests of the manifest: napari finds it, it is valid, and everything named in it exists."""

from __future__ import annotations

from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from app_model.types import SubmenuItem
from npe2 import PluginManifest

import napari_siren

PACKAGE_FILE = Path(napari_siren.__file__).with_name("napari.yaml")
ROOT_FILE = Path(__file__).parents[2] / "napari.yaml"
MANIFEST = PluginManifest.from_file(PACKAGE_FILE)
CONTRIBUTIONS = MANIFEST.contributions
COMMANDS = {command.id: command for command in CONTRIBUTIONS.commands}


def test_the_file_at_the_root_is_the_same() -> None:
    assert ROOT_FILE.read_bytes() == PACKAGE_FILE.read_bytes()


def test_the_entry_point_finds_it() -> None:
    found = PluginManifest.from_distribution("napari-siren")
    assert found.contributions == CONTRIBUTIONS
    assert found.package_version == napari_siren.__version__


def test_it_carries_the_name_of_the_distribution() -> None:
    assert MANIFEST.name == MANIFEST.display_name == "napari-siren"


def test_the_icon_is_there() -> None:
    package, name = MANIFEST.icon.split(":")
    assert (files(package) / name).is_file()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_there(command: str) -> None:
    module, name = COMMANDS[command].python_name.split(":")
    assert callable(getattr(import_module(module), name))


def test_everything_names_a_command_that_there_is() -> None:
    kinds: tuple[Any, ...] = (
        CONTRIBUTIONS.widgets,
        CONTRIBUTIONS.readers,
        CONTRIBUTIONS.writers,
        CONTRIBUTIONS.sample_data,
        *CONTRIBUTIONS.menus.values(),
    )
    named = {item.command for kind in kinds for item in kind if hasattr(item, "command")}
    assert named == set(COMMANDS)


def titles(viewer: Any, menu: str) -> list[str]:
    """Return the titles of this plugin's entries in a menu."""
    from napari._app_model import get_app_model

    items = get_app_model().menus.get_menu(menu)
    entries = [
        (item.title, item.submenu) if isinstance(item, SubmenuItem) else (item.command.title, "") for item in items
    ]
    return [title for title, target in entries if "siren" in f"{title} {target}".lower() or "siren" in menu]


def test_what_the_menus_read(viewer: Any) -> None:
    assert titles(viewer, "napari/plugins") == ["SIREN (napari-siren)"]
    assert titles(viewer, "napari/file/samples") == ["napari-siren"]
    samples = [sample.display_name for sample in CONTRIBUTIONS.sample_data]
    assert titles(viewer, "napari/file/samples/napari-siren") == samples
    assert titles(viewer, "napari/layers/transform") == ["SIREN"]
    assert "SIREN (napari-siren)" in titles(viewer, "napari-siren.transform")
