"""The dependencies of the package: the lower bounds agree with the versions for `make test-lowest` and for conda."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
# Extras for developers of the package. They use the newest versions.
OF_DEVELOPERS = {"bench", "dev", "docs", "test"}


def requirements() -> list[Requirement]:
    """Return the requirements of the package and of its extras, without those of an extra for another extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *(line for extra in extras.keys() - OF_DEVELOPERS for line in extras[extra])]
    return [requirement for requirement in map(Requirement, lines) if requirement.name != project["name"]]


def lowest() -> dict[str, str]:
    """Return the constraints: name and version."""
    lines = (ROOT / "constraints-lowest.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    assert all(len(pair) == 2 for pair in pairs)
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def test_every_dependency_has_a_lower_bound() -> None:
    for requirement in requirements():
        assert [bound.operator for bound in requirement.specifier] == [">="], requirement


def test_the_lowest_versions_are_the_bounds() -> None:
    bounds = [(requirement.name, str(requirement.specifier).removeprefix(">=")) for requirement in requirements()]
    assert lowest() == dict(bounds)
    # A name in several lists has the same bound in each.
    assert len(dict(bounds)) == len(set(bounds))


def test_the_environment_of_conda_has_the_same_bounds() -> None:
    text = (ROOT / "environment.yml").read_text(encoding="utf-8")
    conda = dict(re.findall(r"^  - ([a-z-]+)>=(.+)$", text, re.MULTILINE))
    conda["torch"], conda["matplotlib"] = conda.pop("pytorch-cpu"), conda.pop("matplotlib-base")
    del conda["python"]
    bounds = lowest()
    assert {name: bounds[name] for name in conda} == conda
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {Requirement(line).name for line in project["dependencies"]} <= conda.keys()


# Packages with other names in conda-forge.
OF_CONDA = {"dask": "dask-core", "matplotlib": "matplotlib-base", "torch": "pytorch"}


def test_the_recipe_for_conda_has_the_same_dependencies() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    recipe = yaml.safe_load((ROOT / "conda/recipe.yaml").read_text(encoding="utf-8"))
    project, requirements_there = pyproject["project"], recipe["requirements"]
    assert recipe["context"]["version"] == project["version"]
    assert f">={recipe['context']['python_min']}" == project["requires-python"]
    for field, own in (("summary", "description"), ("license", "license")):
        assert recipe["about"][field] == project[own]

    def in_conda(requirement: Requirement) -> str:
        return f"{OF_CONDA.get(requirement.name, requirement.name)} {requirement.specifier}"

    base = {in_conda(Requirement(line)) for line in project["dependencies"]}
    assert set(requirements_there["run"]) == base | {"python >=${{ python_min }}"}
    assert set(requirements_there["run_constraints"]) == {in_conda(r) for r in requirements()} - base
    build = {in_conda(Requirement(line)) for line in pyproject["build-system"]["requires"]}
    assert set(requirements_there["host"]) == build | {"pip", "python ${{ python_min }}.*"}


def test_the_table_of_extras_is_that_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {name: lines for name, lines in project["optional-dependencies"].items() if name not in OF_DEVELOPERS}
    expected = {name: {Requirement(line).name for line in lines} for name, lines in extras.items() if name != "all"}
    expected["none"] = {Requirement(line).name for line in project["dependencies"]}
    text = (ROOT / "docs/guide/installation.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `?(\w+)`? \| ([^|]+) \|", text.split("## PyTorch")[0], re.MULTILINE))
    assert rows.keys() - {"extra"} == {*extras, "none"}
    for name, packages in expected.items():
        assert set(rows[name].split(", ")) == packages, name
