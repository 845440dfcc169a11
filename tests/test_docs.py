"""The documentation is correct: its code runs, its commands are valid, and its tables agree with the code."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import typer.main
from shortening import shorten_presets

import napari_siren as ns
from napari_siren.cli.app import app
from napari_siren.core.settings.presets import PRESET_NAMES
from napari_siren.io.images import read_image, sample_path, write_image

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^```(.*)\n((?:(?!```).*\n)*)```$", re.MULTILINE)
IMPORT_OF_NAPARI = re.compile(r"^(from|import) napari\b", re.MULTILINE)
# The page that checks its results. All others are run with short fits.
FULL_LENGTH = "docs/guide/torch.md"
# The same for the process of a notebook.
SHORTENED = f"""
import sys
sys.path.insert(0, {str(ROOT / "tests")!r})
from shortening import shorten_computations, shorten_presets
shorten_computations()
shorten_presets()
"""
PROGRAM = typer.main.get_command(app)
COMMANDS = PROGRAM.commands  # type: ignore[attr-defined]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[tuple[int, str]]:
    """Return the code blocks with exactly this info string: number of the first line of code, and code."""
    text = page.read_text(encoding="utf-8")
    found = [m for m in FENCE.finditer(text) if m[1].strip() == language]
    return [(text.count("\n", 0, m.start(2)) + 1, m[2]) for m in found]


@pytest.fixture
def folder_of_a_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a working directory with small versions of the images in the examples."""
    write_image(tmp_path / "photo.png", read_image(sample_path()).array[180:220, 150:200], "YXC")
    z, y, x = np.indices((5, 24, 30))
    stack = 1000 + 800 * np.exp(-((z - 2) ** 2 / 4 + (y - 12) ** 2 / 40 + (x - 15) ** 2 / 40))
    write_image(tmp_path / "stack.tif", stack.astype(np.uint16), "ZYX", (0.4, 0.1, 0.1), "µm")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=name_of)
def test_code_runs(page: Path, folder_of_a_reader: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if find_spec("napari") is None and any(IMPORT_OF_NAPARI.search(code) for _, code in blocks(page, "python")):
        pytest.skip("the page's code needs napari, which is not installed")
    torch.set_num_threads(1)
    if name_of(page) != FULL_LENGTH:
        shorten_presets(monkeypatch.setattr)
    namespace: dict[str, object] = {"__name__": "__main__"}
    for line, code in blocks(page, "python"):
        # Empty lines before the code, so that a traceback has the line of the page.
        exec(compile("\n" * (line - 1) + code, str(page), "exec"), namespace)


def test_code_that_does_not_run_is_the_exception() -> None:
    skipped = [code for page in PAGES for _, code in blocks(page, "python no-run")]
    # They need napari, or an extra that the tests do not install.
    assert all(any(word in code for word in ("napari", "viewer")) for code in skipped)
    known = {"", "json", "python", "python no-run", "sh", "text"}
    # tests/test_extending.py runs the code of that page.
    for page in (page for page in PAGES if page.name != "extending.md"):
        opening = [m[1].strip() for m in FENCE.finditer(page.read_text(encoding="utf-8"))]
        assert set(opening) <= known, name_of(page)


def command_lines() -> list[tuple[str, list[str]]]:
    lines = []
    for page in PAGES:
        for _, code in blocks(page, "sh"):
            for line in code.splitlines():
                words = shlex.split(line, comments=True)
                if words[:1] == ["napari-siren"] and "--help" not in words:
                    lines.append((name_of(page), words[1:]))
    return lines


@pytest.mark.parametrize(("page", "words"), command_lines(), ids=lambda v: v if isinstance(v, str) else " ".join(v))
def test_commands_are_understood(page: str, words: list[str]) -> None:
    name, *arguments = words
    assert name in COMMANDS
    COMMANDS[name].make_context(name, list(arguments))  # parses the words, and runs nothing


def test_options_on_the_page_of_the_command_line_exist() -> None:
    text = (ROOT / "docs/guide/command-line.md").read_text(encoding="utf-8")
    options = (p for command in (PROGRAM, *COMMANDS.values()) for p in command.params)
    there = {option for p in options for option in (*p.opts, *p.secondary_opts)} | {"--help"}
    assert set(re.findall(r"--[a-z][a-z-]*", text)) <= there


def test_the_table_of_presets_is_that_of_the_code() -> None:
    text = (ROOT / "docs/guide/fitting.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in text.splitlines() if row.startswith("| ")]
    head = next(row for row in rows if row[0] == "setting")
    assert set(head[1:]) == set(PRESET_NAMES)
    configs = [ns.FitConfig.preset(name).model_dump() for name in head[1:]]
    told = {match[1]: row[1:] for row in rows if len(row) == len(head) and (match := re.match(r"`(\w+)`", row[0]))}
    for setting, cells in told.items():
        for config, cell in zip(configs, cells, strict=True):
            assert cell == "not used" or json.loads(cell) == config[setting], (setting, config["name"])
    differing = {field for field in configs[0] if len({repr(config[field]) for config in configs}) > 1}
    assert differing - {"name"} <= set(told)


@pytest.mark.skipif(find_spec("nbclient") is None, reason="nbclient is not installed")
@pytest.mark.parametrize("notebook", sorted((ROOT / "docs/notebooks").glob("*.ipynb")), ids=name_of)
def test_notebooks_run(notebook: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    content = nbformat.read(notebook, as_version=4)
    content.cells.insert(0, nbformat.v4.new_code_cell(SHORTENED))
    NotebookClient(content, timeout=250, kernel_name="python3").execute()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_pictures_are_there(page: Path) -> None:
    for target in re.findall(r"!\[[^\]]*\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).is_file(), target


def test_links_of_the_readme_lead_somewhere() -> None:
    """Check the links of the README, because it is not a page of the documentation and the build does not check it."""
    for target in re.findall(r"\]\(([^)]+)\)", (ROOT / "README.md").read_text(encoding="utf-8")):
        path, _, anchor = target.partition("#")
        if "://" in target:
            continue
        assert (ROOT / path).is_file(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}, target


def how_make_builds() -> list[str]:
    """Return the arguments of mkdocs in the Makefile."""
    [recipe] = re.findall(r"^\t\S+/mkdocs (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    return shlex.split(recipe)


@pytest.mark.skipif(find_spec("mkdocs") is None, reason="mkdocs is not installed")
def test_links_to_nowhere_fail_the_build(tmp_path: Path) -> None:
    for folder in ("docs", "src"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    for file in ("CHANGELOG.md", "mkdocs.yml", "pyproject.toml"):
        shutil.copy(ROOT / file, tmp_path)
    dead = ["nowhere.md", "guide/fitting.md#nowhere", "nowhere.png"]
    links = [*(f"[link]({target})" for target in dead), "[link][napari_siren.nowhere]"]
    with (tmp_path / "docs/index.md").open("a", encoding="utf-8") as page:
        page.write("\n" + "\n".join(links))
    command = [sys.executable, "-m", "mkdocs", *how_make_builds()]
    build = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert build.returncode != 0
    # With --quiet, mkdocs counts no warnings, and everything passes.
    warnings = [line for line in build.stderr.splitlines() if line.startswith("WARNING")]
    for target in (*dead, "napari_siren.nowhere"):
        assert any(target in warning for warning in warnings), build.stderr


def test_the_site_leads_to_the_repository(tmp_path: Path) -> None:
    on_config = runpy.run_path(str(ROOT / "docs/hooks.py"))["on_config"]
    for urls, address in (("", None), ('[project.urls]\nSource = "https://a.b/c"\n', "https://a.b/c")):
        (tmp_path / "pyproject.toml").write_text(f"[project]\n{urls}", encoding="utf-8")
        config = {"config_file_path": str(tmp_path / "mkdocs.yml"), "site_name": "napari-siren"}
        assert on_config(config)["repo_url"] == address


def test_every_public_name_is_in_the_reference() -> None:
    text = (ROOT / "docs/reference.md").read_text(encoding="utf-8")
    assert {f"napari_siren.{name}" for name in ns.__all__} <= set(re.findall(r"^::: (\S+)$", text, re.MULTILINE))
