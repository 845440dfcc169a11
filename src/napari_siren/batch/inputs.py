"""The images of a batch: found in files, folders and patterns, and what their results are called."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from napari_siren.errors import InputError
from napari_siren.io.ome_zarr import is_zarr

# What is taken of a folder.
_SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".webp", ".bmp", ".npy", ".zarr")


def find_images(inputs: str | Path | Iterable[str | Path], folder: Path) -> list[tuple[Path, Path]]:
    """Return each image once, with the folder from which on its path is kept in that of the result.

    Raises
    ------
    InputError
        An input is not there, or holds no image.
    """
    given = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    files = [path.resolve() for path in map(Path, given) if _is_one(path)]
    common = Path(os.path.commonpath([path.parent for path in files])) if files else Path()
    found: dict[Path, Path] = {}
    for one in given:
        root, paths = _found_in(one, common)
        results = folder.resolve()
        if root == results and not _is_one(Path(one)):
            raise InputError(f"the results would be among the images of {one}. Choose another folder for them.")
        # Results in a folder within that of the images are no images.
        within = results != root and results.is_relative_to(root)
        inside = [path for path in paths if not (within and path.is_relative_to(results))]
        if not inside:
            raise InputError(
                f"{one}: there is no image there. Give files, folders, or patterns such as 'plates/**/*.tif'."
            )
        for path in inside:
            found.setdefault(path, root)
    return sorted(found.items())


def name_results(found: Iterable[tuple[Path, Path]]) -> Iterator[tuple[Path, str]]:
    """Return each image with the path of its result, relative and without an ending.

    Raises
    ------
    InputError
        Two would be the same.
    """
    found = list(found)
    names = {path: _without_ending(path).relative_to(root).as_posix() for path, root in found}
    often = Counter(names.values())
    # cells.png and cells.tif keep their endings, so as not to become one file.
    full = {path: path.relative_to(root).as_posix() if often[names[path]] > 1 else names[path] for path, root in found}
    again = [name for name, count in Counter(full.values()).items() if count > 1]
    if again:
        raise InputError(
            f"several images would become {again[0]}. Give folders with files of the same names one by one."
        )
    yield from full.items()


def described_by(path: Path) -> Path:
    """Return the file whose change tells that of an image: of an OME-Zarr image that of its description."""
    return next((p for name in ("zarr.json", ".zattrs") if (p := path / name).is_file()), path)


def _found_in(given: str | Path, common: Path) -> tuple[Path, list[Path]]:
    """Return the files that an input stands for, and the folder from which on their paths are kept."""
    path = Path(given)
    if _is_one(path):
        return common, [path.resolve()]
    if path.is_dir():
        root = path.resolve()
        inside = (p for p in root.rglob("*") if p.suffix.lower() in _SUFFIXES and _is_one(p))
        return root, [p for p in inside if not any(part.startswith(".") for part in p.relative_to(root).parts)]
    parts = path.parts
    fixed = next((i for i, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    if fixed == len(parts):
        raise InputError(f"there is no file or folder {path}. Is its name right?")
    matches = glob.glob(str(path), recursive=True)  # noqa: PTH207  (an absolute pattern)
    return Path(*parts[:fixed]).resolve(), [p.resolve() for p in map(Path, matches) if _is_one(p)]


def _is_one(path: Path) -> bool:
    """Whether a path is a file, or the folder of an OME-Zarr image."""
    return path.is_file() or is_zarr(path)


def _without_ending(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(path.suffix).removesuffix(".ome"))
