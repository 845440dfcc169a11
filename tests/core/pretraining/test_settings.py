"""Settings of trainings."""

from __future__ import annotations

from pathlib import Path

import pytest
from training_cases import TRAINING

from napari_siren.core.degradation import kinds
from napari_siren.core.pretraining.settings import KINDS, Settings, read_settings
from napari_siren.errors import ConfigError, StorageError


def test_settings_are_those_of_the_class() -> None:
    assert read_settings(TRAINING / "enlarge.toml") == Settings()
    with pytest.raises(ConfigError, match="no such settings: batches"):
        Settings().with_changes({"batches": 1})


@pytest.mark.parametrize("kind", KINDS)
def test_the_published_settings_are_read(kind: str) -> None:
    assert read_settings(TRAINING / f"{kind}.toml").kind == kind


def test_every_kind_has_its_degradation() -> None:
    assert tuple(kinds.KINDS) == KINDS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("batches = 1", "no such settings: batches. Choose from kind,"),
        ("[network]\nwidths = 1", "no such settings of the network: widths"),
        ('loss = "cubic"', "loss = 'cubic' is unknown. Choose absolute or square."),
        ('kind = "other"', "kind = 'other' is unknown"),
    ],
)
def test_wrong_settings_are_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_settings(path)


def test_files_of_another_format_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text("not TOML")
    for wrong in (path, tmp_path / "missing.toml"):
        with pytest.raises(StorageError, match="Choose a file of settings in TOML"):
            read_settings(wrong)
