"""The images of a batch, from files, folders and patterns, and the names of their results."""

from __future__ import annotations

import glob
import hashlib
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from napari_siren.core.storage.records import parse_json
from napari_siren.errors import InputError
from napari_siren.io.formats import readable_suffixes
from napari_siren.io.remote import address_of, is_remote
from napari_siren.io.zarr.group import is_zarr

# Endings of the files and folders that are images, if a folder is searched.
_SUFFIXES = readable_suffixes()
# First bytes of common formats, for files without an ending: TIFF, PNG, JPEG, GIF, NPY, BMP and PNM.
_STARTS = (
    b"II*\0",
    b"MM\0*",
    b"II+\0",
    b"MM\0+",
    b"\x89PNG",
    b"\xff\xd8\xff",
    b"GIF8",
    b"\x93NUMPY",
    b"BM",
    b"P5\n",
    b"P6\n",
)
# Number of files in a message.
_NAMED = 5

_LOG = logging.getLogger("napari_siren")


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
    # Some disks ignore upper and lower case.
    counts = Counter(name.casefold() for name in names.values())
    # cells.png and cells.tif keep their endings, so that their results have different names.
    full = {
        path: path.relative_to(root).as_posix() if counts[names[path].casefold()] > 1 else names[path]
        for path, root in found
    }
    folded = Counter(name.casefold() for name in set(full.values()))
    full = {path: name if folded[name.casefold()] == 1 else f"{name}.{_short(name)}" for path, name in full.items()}
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
    if is_remote(source):
        raise InputError(
            f"a batch reads files of this computer, not {address_of(source)}. Download the image, or upscale it by "
            "itself."
        )
    if _is_image(path):
        return common, [path.resolve()]
    if path.is_dir():
        root = path.resolve()
        return root, list(_images_in(root))
    parts = path.parts
    fixed = next((i for i, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    if fixed == len(parts):
        raise InputError(f"there is no file or folder {path}. Check its name.")
    matches = glob.glob(str(path), recursive=True)  # noqa: PTH207  (the pattern may be absolute)
    root = Path(*parts[:fixed]).resolve()
    images = [p.resolve() for p in map(Path, matches) if _is_image(p)]
    return root, [image for image in images if not _is_result(image, root)]


def _images_in(root: Path) -> Iterator[Path]:
    """Yield the images in a folder and its subfolders, and log the omitted files.

    Hidden files and folders, and the folders of earlier results, are left out.
    """
    others: list[str] = []
    earlier: list[str] = []
    for folder, subfolders, names in os.walk(root):
        here = Path(folder)
        for name in sorted(subfolders):
            path = here / name
            if name.startswith(".") or is_zarr(path) or _holds_results(path):
                subfolders.remove(name)
            if not name.startswith("."):
                if is_zarr(path):
                    yield path
                elif _holds_results(path):
                    earlier.append(path.relative_to(root).as_posix())
        for name in names:
            path = here / name
            if name.startswith("."):
                continue
            if path.suffix.lower() in _SUFFIXES or (not path.suffix and _starts_as_image(path)):
                yield path
            else:
                others.append(path.relative_to(root).as_posix())
    for text, left_out in (("files that are not images by their names", others), ("earlier results", earlier)):
        if left_out:
            named = ", ".join(sorted(left_out)[:_NAMED]) + (", …" if len(left_out) > _NAMED else "")
            _LOG.warning("%s: left out %d %s: %s", root, len(left_out), text, named)


def _holds_results(folder: Path) -> bool:
    """Return whether a folder holds the results of a batch, or of a fit on the command line."""
    try:
        if (folder / "manifest.jsonl").is_file():
            with (folder / "manifest.jsonl").open(encoding="utf-8") as lines:
                return {"job", "output", "settings"} <= set(parse_json(lines.readline() or "{}"))
        if (folder / "report.json").is_file() and (folder / "model.safetensors").is_file():
            return "napari_siren" in parse_json((folder / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        pass
    return False


def _is_result(path: Path, root: Path) -> bool:
    """Return whether a file is in a folder of results below the root."""
    parents = path.relative_to(root).parents if path.is_relative_to(root) else ()
    return any(_holds_results(root / parent) for parent in parents if parent != Path())


def _starts_as_image(path: Path) -> bool:
    """Return whether the first bytes of a file are those of a common image format."""
    try:
        with path.open("rb") as file:
            return file.read(16).startswith(_STARTS)
    except OSError:
        return False


def _is_image(path: Path) -> bool:
    """Return whether a path is a file, or the folder of an OME-Zarr image."""
    return path.is_file() or is_zarr(path)


def _short(name: str) -> str:
    """Return a short text for a name, with regard to upper and lower case."""
    return hashlib.sha256(name.encode()).hexdigest()[:6]


def _without_ending(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(path.suffix).removesuffix(".ome"))
