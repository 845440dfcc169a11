"""Whole files for `fuzz`, the command that reads each kind, and the ways to damage them."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

import napari_siren as ns
from napari_siren.batch.manifest import Entry
from napari_siren.blockwise.fit import BlockProgress
from napari_siren.core.storage.tensors import content_hash
from napari_siren.io.colours import srgb_profile
from napari_siren.io.zarr.ome_zarr import write_ome_zarr

# A fit that takes little time.
QUICK: dict[str, Any] = {"hidden_features": 8, "hidden_layers": 1, "max_steps": 2, "tile": 8}
# Name of the folder of unfinished work on x.ome.zarr.
WORK = ".x.ome.zarr.work"
KINDS = (
    *("TIFF", "PNG", "JPEG", "NPY", "OME-Zarr"),
    *("model", "checkpoint", "unfinished work", "manifest", "settings"),
)
# Interrupted fits: a name, the phase in which they are interrupted, the preset, and the settings beside `QUICK`.
_INTERRUPTED: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("fitting", "fit", "fast", {"max_memory": 150_000}),
    ("rendered", "render", "fast", {}),
    ("pretrained", "fit", "upscale", {"max_memory": 400_000}),
    ("trained", "fit", "upscale", {"max_memory": 400_000, "pretrained": None, "task_steps": 2}),
)
# Values that damaged JSON has instead of its own.
_VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 2.5, 2**31, 10**30, 1e308, "", "x", "inf", "nan", "../x", "\x1b[2J", [], [[]], {}, [-1]),
    *([1] * 50, {"a": 1}),
)
# Numbers that damaged binary files have instead of their own.
_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


@dataclass(frozen=True)
class Case:
    """A file, or a folder, and the command that reads it.

    Parameters
    ----------
    kind
        Kind of the file.
    source
        The whole file or folder.
    command
        Function that returns the arguments of the command line for a damaged copy and a folder for its results.
    exact
        Whether a result of the damaged copy has to be that of the whole file, to the bit.
    """

    kind: str
    source: Path
    command: Callable[[Path, Path], list[object]]
    exact: bool = False


def cases(folder: Path, kinds: Collection[str] = KINDS) -> list[Case]:
    """Write the whole files to a folder, and return those of some kinds with their commands."""
    folder.mkdir(parents=True, exist_ok=True)
    picture = folder / "picture.png"
    Image.fromarray(_pixels()).save(picture)
    others, arrays = [*_tiffs(folder), *_pngs(folder), *_jpegs(folder), *_zarrs(folder)], list(_npys(folder))
    images = [Case(kind, path, _upscale) for kind, path in others]
    images += [Case("NPY", path, command) for path in arrays for command in (_upscale, _upscale_blocks)]
    # A report takes a second.
    images += [Case("NPY", path, _fit) for path in arrays[:2]]
    unfinished = list(_unfinished(folder)) if "unfinished work" in kinds else []
    return [case for case in (*images, *unfinished, *_others(folder, picture)) if case.kind in kinds]


def _options(preset: str, fields: Mapping[str, Any]) -> list[object]:
    """Return the options of a fit with some fields of its settings changed."""
    changes = [word for name, value in fields.items() for word in ("--set", f"{name}={json.dumps(value)}")]
    return ["--scale", "2", "--preset", preset, *changes, "-q"]


def _upscale(path: Path, out: Path) -> list[object]:
    return ["upscale", path, "-o", out / "x.tif", "--max-seconds", "5", *_options("fast", QUICK)]


def _fit(path: Path, out: Path) -> list[object]:
    return ["fit", path, "-o", out / "fit", "--max-seconds", "5", *_options("fast", QUICK)]


def _upscale_blocks(path: Path, out: Path) -> list[object]:
    return ["upscale", path, "-o", out / "x.ome.zarr", *_options("fast", QUICK)]


def _pixels(colours: int = 3) -> np.ndarray:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 255, (20, 24, colours), dtype=np.uint8)
    return pixels if colours > 1 else pixels[..., 0]


def _tiffs(folder: Path) -> Iterator[tuple[str, Path]]:
    stack = np.stack([_pixels(1)] * 3).astype(np.uint16)
    options: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
        "plain": (_pixels(), {"photometric": "rgb"}),
        "deflate": (_pixels(), {"photometric": "rgb", "compression": "zlib", "predictor": True}),
        "tiled": (_pixels(1), {"tile": (16, 16), "compression": "zlib"}),
        "planar": (np.moveaxis(_pixels(), 2, 0), {"photometric": "rgb", "planarconfig": "separate"}),
        "imagej": (stack, {"imagej": True, "metadata": {"axes": "ZYX", "spacing": 2.0, "unit": "um"}}),
        "ome": (stack, {"ome": True, "metadata": {"axes": "ZYX", "PhysicalSizeX": 0.5, "Channel": {"Name": ["a"]}}}),
        "bilevel": (_pixels(1) > 99, {}),
        "float": (_pixels(1).astype(np.float32), {"rowsperstrip": 4}),
        "big": (_pixels(), {"photometric": "rgb", "bigtiff": True}),
    }
    for name, (pixels, fields) in options.items():
        path = folder / f"{name}.tif"
        tifffile.imwrite(path, pixels, **fields)
        yield "TIFF", path


def _pngs(folder: Path) -> Iterator[tuple[str, Path]]:
    grey, colour = Image.fromarray(_pixels(1)), Image.fromarray(_pixels())
    colour.save(folder / "rgb.png", icc_profile=srgb_profile(), dpi=(300, 300))
    colour.quantize(16).save(folder / "palette.png", transparency=0)
    grey.convert("I;16").save(folder / "grey16.png")
    grey.convert("1").save(folder / "bit.png")
    Image.fromarray(_pixels(4)).save(folder / "rgba.png")
    for name in ("rgb", "palette", "grey16", "bit", "rgba"):
        yield "PNG", folder / f"{name}.png"


def _jpegs(folder: Path) -> Iterator[tuple[str, Path]]:
    colour = Image.fromarray(_pixels())
    exif = Image.Exif()
    exif[274] = 6
    colour.save(folder / "exif.jpg", exif=exif, icc_profile=srgb_profile(), dpi=(72, 72))
    colour.convert("CMYK").save(folder / "cmyk.jpg")
    colour.convert("L").save(folder / "grey.jpg", progressive=True)
    colour.save(folder / "two.jpg", format="MPO", save_all=True, append_images=[colour])
    for name in ("exif", "cmyk", "grey", "two"):
        yield "JPEG", folder / f"{name}.jpg"


def _npys(folder: Path) -> Iterator[Path]:
    grey = _pixels(1)
    arrays = {
        "grey": grey,
        "colours": _pixels(),
        "fortran": np.asfortranarray(grey),
        "big-endian": grey.astype(">u2"),
        "float": grey.astype(np.float32),
        "bool": grey > 99,
        "stack": np.stack([grey[:8, :8]] * 3).astype(np.int16),
    }
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
        yield folder / f"{name}.npy"


def _zarrs(folder: Path) -> Iterator[tuple[str, Path]]:
    for version in ("0.4", "0.5"):
        path = folder / f"v{version[-1]}.ome.zarr"
        write_ome_zarr(path, _pixels(1), "YX", (0.5, 0.5), "micrometer", version=version)  # type: ignore[arg-type]
        yield "OME-Zarr", path


def _unfinished(folder: Path) -> Iterator[Case]:
    """Interrupt fits block by block, and return the cases of their folders of unfinished work."""
    image = folder / "big.ome.zarr"
    # The result has two levels.
    write_ome_zarr(image, np.resize(_pixels(1), (20, 140)), "YX", (0.5, 0.5), "micrometer")
    for name, phase, preset, own in _INTERRUPTED:
        (folder / name).mkdir()
        out, stop, fields = folder / name / "x.ome.zarr", partial(_interrupt, phase), {**QUICK, **own}
        with suppress(_InterruptionError):
            ns.fit_blocks(image, out, 2, preset=preset, on_progress=stop, **fields)
        yield Case("unfinished work", folder / name / WORK, partial(_continue, image, preset, fields), exact=True)


class _InterruptionError(Exception):
    """The interruption of a fit."""


def _interrupt(phase: str, progress: BlockProgress) -> None:
    if progress.phase == phase and progress.done >= 1:
        raise _InterruptionError


def _continue(image: Path, preset: str, fields: Mapping[str, Any], work: Path, out: Path) -> list[object]:
    shutil.copytree(work, out / WORK)
    return ["upscale", image, "-o", out / "x.ome.zarr", *_options(preset, fields)]


def _others(folder: Path, picture: Path) -> list[Case]:
    """Return the cases of files that this package wrote."""
    tiles = ns.fit(_pixels(), **QUICK)
    tiles.save(folder / "checkpoint.safetensors", resumable=True)
    tiles.save(folder / "model.safetensors")
    samples = ns.fit(_pixels(1), preset="upscale", adapt="off", detail=2.0)
    samples.save(folder / "samples.safetensors")
    settings = folder / "settings.json"
    settings.write_text(ns.FitConfig.preset("fast", **QUICK).model_dump_json())
    manifest = folder / "manifest.jsonl"
    entry = Entry("picture.png", str(picture), "picture.png", "done", "5f3a", metrics={"psnr": 30.0}, shape=(20, 24, 3))
    manifest.write_text("".join(json.dumps(entry.as_json()) + "\n" for _ in range(3)))

    def render(path: Path, out: Path) -> list[object]:
        return ["render", path, "-o", out / "x.tif", "--scale", "2", "-q"]

    def resume(path: Path, out: Path) -> list[object]:
        return ["fit", picture, "-o", out / "fit", "--resume", path, "--max-steps", "4", "-q"]

    def configured(path: Path, out: Path) -> list[object]:
        return ["fit", picture, "-o", out / "fit", "--config", path, "--max-steps", "1", "--max-seconds", "3", "-q"]

    def continued(path: Path, out: Path) -> list[object]:
        (out / "batch").mkdir()
        shutil.copy(path, out / "batch" / "manifest.jsonl")
        return ["batch", picture, "-o", out / "batch", "--dry-run", "--preset", "fast", "-q"]

    return [
        Case("model", folder / "model.safetensors", render, exact=True),
        Case("model", folder / "samples.safetensors", render, exact=True),
        Case("checkpoint", folder / "checkpoint.safetensors", resume),
        Case("settings", settings, configured),
        Case("manifest", manifest, continued),
    ]


def damage(case: Case, target: Path, random: np.random.Generator) -> None:
    """Write a damaged copy of the file or folder of a case."""
    if case.source.is_dir():
        shutil.copytree(case.source, target)
        files = sorted(path for path in target.rglob("*") if path.is_file())
        path = files[random.integers(len(files))]
        if random.random() < 0.05:
            path.unlink()
            return
    else:
        path = target
        shutil.copy(case.source, path)
    data = path.read_bytes()
    if case.source.is_file() and path.suffix == ".safetensors" and random.random() < 0.5:
        _damage_header(path, random)
    elif path.suffix != ".safetensors" and data[:1] == b"{" and random.random() < 0.7:
        path.write_text(_damaged_text(data.decode(), random))
    else:
        for _ in range(int(random.integers(1, 4))):
            data = _damaged_bytes(data, random)
        path.write_bytes(data)


def _damage_header(path: Path, random: np.random.Generator) -> None:
    """Change the description of a model, and give it a valid hash, as a hostile person would."""
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = dict(file.metadata())
    metadata["model"] = _damaged_json(metadata["model"], random)
    metadata["sha256"] = content_hash(tensors, metadata["model"])
    save_file(tensors, path, metadata)


def _damaged_text(text: str, random: np.random.Generator) -> str:
    """Damage JSON, or every line of a file with JSON in each line."""
    lines = text.splitlines()
    try:
        json.loads(lines[0])
    except ValueError:
        return _damaged_json(text, random)
    return "\n".join(_damaged_json(line, random) for line in lines)


def _damaged_json(text: str, random: np.random.Generator) -> str:
    """Replace or remove an entry at a random depth."""
    values = json.loads(text)
    target, parent, key = values, None, None
    while isinstance(target, dict | list) and target and (parent is None or random.random() < 0.7):
        parent = target
        keys = list(target) if isinstance(target, dict) else list(range(len(target)))
        key = keys[random.integers(len(keys))]
        target = target[key]
    if parent is None:
        return text
    if random.random() < 0.2:
        del parent[key]  # type: ignore[arg-type]
    else:
        parent[key] = _VALUES[random.integers(len(_VALUES))]  # type: ignore[index]
    return json.dumps(values)


def _damaged_bytes(data: bytes, random: np.random.Generator) -> bytes:
    """Damage bytes in one of seven ways, half of the time among the first hundred, where headers are."""
    if not data:
        return b"\0"
    at = int(random.integers(min(len(data), 100) if random.random() < 0.5 else len(data)))
    size = int(random.integers(1, 16))
    number = struct.pack("<I", _NUMBERS[random.integers(len(_NUMBERS))])
    width = int(random.choice([1, 2, 4]))
    ways = (
        lambda: data[:at] + bytes([data[at] ^ (1 << int(random.integers(8)))]) + data[at + 1 :],
        lambda: data[:at] + random.bytes(size) + data[at + size :],
        lambda: data[:at] + number[:width] + data[at + width :],
        lambda: data[:at] + number[:width][::-1] + data[at + width :],
        lambda: data[:at],
        lambda: data[:at] + data[at + size :],
        lambda: data[:at] + random.bytes(size) + data[at:],
    )
    return ways[random.integers(len(ways))]()
