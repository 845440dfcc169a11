"""The images of a batch, from files, folders and patterns, and the names of their results."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from napari_siren.errors import InputError
from napari_siren.io.formats import readable_suffixes
from napari_siren.io.ome_zarr import is_zarr

# Endings of the files and folders that are images, if a folder is searched.
_SUFFIXES = readable_suffixes()


def find_images(inputs: str | Path | Iterable[str | Path], folder: Path) -> list[tuple[Path, Path]]:
    """Return each image once, with its root folder.

    The path of an image relative to its root folder is also the path of its result in `folder`.

    Raises
    ------
    InputError
        An input does not exist or holds no image, or the results would be among the images.
    """
    sources = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    files = [path.resolve() for path in map(Path, sources) if _is_image(path)]
    common = Path(os.path.commonpath([path.parent for path in files])) if files else Path()
    roots: dict[Path, Path] = {}
    for source in sources:
        root, paths = _expand(source, common)
        results = folder.resolve()
        if root == results and not _is_image(Path(source)):
            raise InputError(
                f"the results would be among the images of {source}. Choose another folder for the results."
            )
        # The folder of the results may be inside the folder of the images. Its files are not inputs.
        nested = results != root and results.is_relative_to(root)
        images = [path for path in paths if not (nested and path.is_relative_to(results))]
        if not images:
            raise InputError(
                f"there is no image in {source}. Give files, folders, or patterns such as 'plates/**/*.tif'."
            )
        for path in images:
            roots.setdefault(path, root)
    return sorted(roots.items())


def name_results(found: Iterable[tuple[Path, Path]]) -> Iterator[tuple[Path, str]]:
    """Yield each image with the path of its result, relative to the folder of results and without an ending.

    Raises
    ------
    InputError
        Two images would have the same result.
    """
    found = list(found)
    names = {path: _without_ending(path).relative_to(root).as_posix() for path, root in found}
    counts = Counter(names.values())
    # cells.png and cells.tif keep their endings, so that their results have different names.
    full = {path: path.relative_to(root).as_posix() if counts[names[path]] > 1 else names[path] for path, root in found}
    duplicates = [name for name, count in Counter(full.values()).items() if count > 1]
    if duplicates:
        raise InputError(
            f"several images would become {duplicates[0]}. Process folders with equal file names one by one, each with "
            "its own folder of results."
        )
    yield from full.items()


def described_by(path: Path) -> Path:
    """Return the file to check for a change of an image: itself, or the metadata file of an OME-Zarr image."""
    return next((p for name in ("zarr.json", ".zattrs") if (p := path / name).is_file()), path)


def _expand(source: str | Path, common: Path) -> tuple[Path, list[Path]]:
    """Return the root folder of an input, and its images."""
    path = Path(source)
    if _is_image(path):
        return common, [path.resolve()]
    if path.is_dir():
        root = path.resolve()
        images = (p for p in root.rglob("*") if p.suffix.lower() in _SUFFIXES and _is_image(p))
        return root, [p for p in images if not any(part.startswith(".") for part in p.relative_to(root).parts)]
    parts = path.parts
    fixed = next((i for i, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    if fixed == len(parts):
        raise InputError(f"there is no file or folder {path}. Check its name.")
    matches = glob.glob(str(path), recursive=True)  # noqa: PTH207  (the pattern may be absolute)
    return Path(*parts[:fixed]).resolve(), [p.resolve() for p in map(Path, matches) if _is_image(p)]


def _is_image(path: Path) -> bool:
    """Return whether a path is a file, or the folder of an OME-Zarr image."""
    return path.is_file() or is_zarr(path)


def _without_ending(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(path.suffix).removesuffix(".ome"))
