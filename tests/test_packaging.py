"""The built package: its version, and its description on PyPI."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ElementTree
import zipfile
from collections.abc import Iterator
from email import message_from_string
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from markdown_it import MarkdownIt
from waiting import LIMIT

import napari_siren as ns

ROOT = Path(__file__).resolve().parents[1]
SOURCE = "https://github.com/someone/napari-siren"


def test_the_version_is_the_same_everywhere() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == version
    # The workflow of the wheels compares this line with the tag.
    assert (ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines().count(f'version = "{version}"') == 1
    assert ns.__version__ == version


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a source tree with what a description is made from."""
    if find_spec("hatchling") is None:
        pytest.skip("hatchling is not installed")
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    compiler = Path("src/napari_siren/core/native/compiler.py")
    (tmp_path / compiler).parent.mkdir(parents=True)
    shutil.copy(ROOT / compiler, tmp_path / compiler)
    return tmp_path


def set_source(tree: Path, address: str | None) -> None:
    """Set or remove the address of the repository."""
    path = tree / "pyproject.toml"
    text = re.sub(r"^\[project\.urls\]\n([^\[\n].*\n)*", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    if address is not None:
        text = text.replace("\n[project.scripts]", f'\n[project.urls]\nSource = "{address}"\n\n[project.scripts]')
    path.write_text(text, encoding="utf-8")


def description(tree: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Build a wheel without the kernel, and return its description."""
    with zipfile.ZipFile(build(tree, monkeypatch)) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = message_from_string(archive.read(name).decode())
    assert metadata["Description-Content-Type"] == "text/markdown"
    return str(metadata.get_payload())


def build(tree: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Build a wheel without the kernel, and return its file."""
    monkeypatch.setenv("CC", "no-such-compiler")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", "dist"]
    built = subprocess.run(command, cwd=tree, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = (tree / "dist").glob("*.whl")
    return wheel


def targets(text: str, tag: str) -> Iterator[str]:
    """Yield the addresses of the links ("a") or pictures ("img") of Markdown."""
    for block in MarkdownIt().enable("table").parse(text):
        assert block.type != "html_block"
        for token in block.children or ():
            assert token.type != "html_inline"
            if token.tag == tag and token.nesting >= 0:
                yield str(token.attrs["href" if tag == "a" else "src"])


def test_readme_has_relative_links_and_pictures() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for tag, least in (("a", 20), ("img", 4)):
        paths = [target.split("#")[0] for target in targets(text, tag) if "://" not in target]
        assert len(paths) >= least
        assert all((ROOT / path).exists() for path in paths)


def test_without_an_address_of_the_repository_the_description_has_none_of_them(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_source(tree, None)
    text = description(tree, monkeypatch)
    assert all("://" in target for target in targets(text, "a"))
    assert list(targets(text, "img")) == []
    assert "\nguide describes all commands." in text
    assert "(https://arxiv.org/abs/2006.09661)" in text


def test_with_it_the_description_has_absolute_addresses(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_source(tree, SOURCE)
    version = tomllib.loads((tree / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    text, readme = description(tree, monkeypatch), (ROOT / "README.md").read_text(encoding="utf-8")
    for tag, way in (("a", "blob"), ("img", "raw")):
        found = list(targets(text, tag))
        expected = [t if "://" in t else f"{SOURCE}/{way}/v{version}/{t}" for t in targets(readme, tag)]
        assert found == expected


def test_the_icon_of_the_plugin_is_in_the_wheel(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = Path("src/napari_siren")
    for path in (ROOT / package).iterdir():
        if path.is_file():
            shutil.copy(path, tree / package)
    with zipfile.ZipFile(build(tree, monkeypatch)) as archive:
        manifest = yaml.safe_load(archive.read("napari_siren/napari.yaml"))
        module, name = manifest["icon"].split(":")
        icon = archive.read(f"{module.replace('.', '/')}/{name}")
    assert ElementTree.fromstring(icon).tag == "{http://www.w3.org/2000/svg}svg"
    assert len(icon) < 2000
