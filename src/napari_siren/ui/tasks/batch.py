"""A batch as a background task: layers written to files, progress reports, and results as layers. No Qt."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_siren.core.image.axes import Axes, guess_axes
from napari_siren.errors import InputError
from napari_siren.layers.outputs import scale_label
from napari_siren.layers.reading import Placement, attribute, axis_kind, layer_title, to_array
from napari_siren.layers.spec import LayerData, LayerSpec
from napari_siren.ui.tasks.fit import load_torch

if TYPE_CHECKING:
    from napari_siren.batch.manifest import Entry
    from napari_siren.batch.report import BatchReport
    from napari_siren.batch.run import BatchProgress
    from napari_siren.io.picture import Picture

# Seconds between two progress reports.
_REPORT_SECONDS = 0.1
# Channel names of a colour image in OME-Zarr.
_COLOURS = ("red", "green", "blue")
# Suffix of the file of a layer.
_LAYER_SUFFIX = ".ome.tif"
REPLACE = "Replace existing results"
"""Text of the tick box for files that a batch would replace."""
# Characters that some operating system forbids in file names.
_FORBIDDEN = re.compile(r'[\\/:*?"<>|\x00-\x1f]')


@dataclass(frozen=True, eq=False)
class BatchRequest:
    """The inputs, the output folder and the options of a batch.

    Parameters
    ----------
    inputs
        Files, folders and patterns, the same as for `fit_batch`.
    layers
        Further inputs: layers by the names of their results (see `name_layers`). Their pixels may be still unread.
    out
        Folder of the results.
    options
        The other arguments of `fit_batch`.
    """

    inputs: tuple[str | Path, ...]
    layers: Mapping[str, LayerSpec]
    out: Path
    options: Mapping[str, Any]

    def layer_of(self, entry: Entry) -> LayerSpec | None:
        """Return the layer of an entry of the batch, or None if the entry is a file."""
        return self.layers.get(Path(entry.input).name.removesuffix(_LAYER_SUFFIX))


@dataclass(frozen=True, eq=False)
class BatchOutcome:
    """The end of a batch.

    Parameters
    ----------
    report
        Report of the batch; None if it could not start.
    error
        The exception of a batch that could not start.
    """

    report: BatchReport | None = None
    error: Exception | None = None


def run_batch(request: BatchRequest, stop: threading.Event) -> Generator[list[BatchProgress], None, BatchOutcome]:
    """Run a batch, report progress several times a second, and never raise an error.

    Yields
    ------
    list of BatchProgress
        All reports since the last list.

    Returns
    -------
    BatchOutcome
        The outcome. It has a report also if the batch was stopped.
    """
    reports: SimpleQueue[BatchProgress | None] = SimpleQueue()
    # The reports of a batch come from several threads, also while it waits for its work: hence a thread and a queue.
    with ThreadPoolExecutor(1, "napari-siren batch") as pool:
        work = pool.submit(_run, request, stop, reports.put)
        work.add_done_callback(lambda _: reports.put(None))
        while (first := reports.get()) is not None:
            time.sleep(_REPORT_SECONDS)
            rest = [reports.get() for _ in range(reports.qsize())]
            yield [first, *(progress for progress in rest if progress is not None)]
            if None in rest:
                break
        return work.result()


def whole_layer(layer: Any, each: bool) -> LayerSpec:
    """Return the spec of all pixels of a layer, for a batch. No pixel is read.

    Parameters
    ----------
    layer
        An image layer of napari. Of a multiscale layer, the finest level is taken.
    each
        Whether each frame of a time series is fitted by itself.

    Raises
    ------
    InputError
        The layer is a time series, and `each` is False; or `LayerSpec.from_layer` refuses the layer.
    """
    time_axes = [i for i, label in enumerate(attribute(layer, "axis_labels", ())) if axis_kind(label) == "T"]
    if len(time_axes) != 1:
        return LayerSpec.from_layer(layer, lazily=True)
    if not each:
        raise InputError(f"{layer_title(layer)} is a time series. Tick “Each frame of a time series by itself”.")
    [time_axis] = time_axes
    first = LayerSpec.from_layer(layer, plane=[0 if i == time_axis else None for i in range(layer.ndim)], lazily=True)
    finest = layer.data[0] if layer.multiscale else layer.data
    # The other axes that are held have one entry.
    single = tuple(axis for axis in first.held if axis != time_axis)
    position = time_axis - sum(axis < time_axis for axis in single)
    pixels = tuple(0 if axis in single else slice(None) for axis in range(layer.ndim))
    return replace(
        first,
        shape=tuple(finest.shape[: layer.ndim]),
        axes=Axes(f"{first.axes[:position]}T{first.axes[position:]}"),
        held=single,
        read=lambda: to_array(finest[pixels] if single else finest, layer),
    )


def name_layers(layers: Iterable[LayerSpec]) -> dict[str, LayerSpec]:
    """Return the layers by unique file names. The names differ also on systems that ignore upper and lower case."""
    layer_by_name: dict[str, LayerSpec] = {}
    used_names: set[str] = set()
    for layer in layers:
        stem = name = _FORBIDDEN.sub("_", layer.name).strip(" .") or "layer"
        number = 1
        while name.casefold() in used_names:
            number += 1
            name = f"{stem} {number}"
        used_names.add(name.casefold())
        layer_by_name[name] = layer
    return layer_by_name


def result_layer(path: Path, scale: float, source: LayerSpec | None = None) -> LayerData:
    """Return a layer of a result, placed over its source image.

    Parameters
    ----------
    path
        File of the result.
    scale
        Output pixels per pixel.
    source
        The source layer. None if the source is a file: the layer is then placed as napari would open that file, with
        the first pixel at the origin.

    Raises
    ------
    InputError
        The file does not exist, or is not an image.
    """
    array, axes, picture = _read(path)
    if source is None:
        rgb = axes.endswith("C") and array.ndim > 2 and array.shape[-1] in (3, 4)
        letters = axes.coordinates if rgb else axes
        name, display = path.name.removesuffix(path.suffix).removesuffix(".ome"), {}
        placement = _placement_of_file(letters, scale, picture)
    else:
        rgb, name, display = source.rgb, source.name, dict(source.display)
        letters = source.axes.coordinates if rgb else source.axes
        array, placement = np.expand_dims(_in_order(array, axes, source.axes), source.held), source.placement
    # Files leave out an axis of one entry; such an axis is not scaled.
    factors = [scale if letter in axes.spatial else 1.0 for letter in letters]
    for axis in () if source is None else source.held:
        factors.insert(axis, 1.0)
    meta = {"name": f"{name} [{scale_label(scale)}]", "rgb": rgb, **placement.resized(factors).as_meta(), **display}
    return array, meta, "image"


def _run(request: BatchRequest, stop: threading.Event, on_progress: Callable[[BatchProgress], object]) -> BatchOutcome:
    try:
        load_torch()
        from napari_siren.batch.manifest import kept
        from napari_siren.batch.run import fit_batch
        from napari_siren.core.storage.atomic import prepare_folder

        with ExitStack() as stack:
            inputs = [*request.inputs]
            if request.layers:
                parent = prepare_folder(kept(request.out))
                folder = stack.enter_context(TemporaryDirectory(prefix="layers-", dir=parent))
                inputs += [_write_layer(Path(folder), name, layer) for name, layer in request.layers.items()]
            return BatchOutcome(fit_batch(inputs, request.out, on_progress=on_progress, stop=stop, **request.options))
    except InputError as error:
        from napari_siren.batch.run import OVERWRITE_REMEDY

        remedy = f"Choose another folder, or tick “{REPLACE}”."
        return BatchOutcome(error=InputError(str(error).replace(OVERWRITE_REMEDY, remedy)))
    except Exception as error:
        return BatchOutcome(error=error)


def _write_layer(folder: Path, name: str, layer: LayerSpec) -> Path:
    """Write a layer with its axes and pixel size to a file.

    A batch compares the contents of its files, not their dates. A layer that is written again is therefore not fitted
    again.
    """
    from napari_siren.io.images import write_image

    layer = layer.loaded()
    if layer.data is None:
        raise InputError(f"the pixels of {layer.name!r} are no longer available. Add the layer to the batch again.")
    if layer.masked is not None:
        raise InputError(f"{layer.name!r} has masked pixels, which files cannot hold. Fit it in the panel.")
    sizes = dict(zip(layer.axes.coordinates, layer.spacing, strict=True))
    fitted = [unit for axis, unit in enumerate(layer.placement.units) if axis not in layer.held]
    in_seconds = layer.axes.time is not None and fitted[layer.axes.time] == "second"
    return write_image(
        folder / f"{name}{_LAYER_SUFFIX}",
        layer.data,
        layer.axes,
        [sizes[letter] for letter in layer.axes.spatial],
        layer.unit,
        interval=(sizes["T"], "s") if in_seconds else None,
    )


def _read(path: Path) -> tuple[npt.NDArray[Any], Axes, Picture]:
    """Return the array of a result, all frames included, its axes, and the picture with the other metadata."""
    from napari_siren.io.images import inspect_image, read_image

    frames = inspect_image(path, each=True).frames
    if frames is None:
        picture = read_image(path)
        array, axes = picture.array, picture.axes or guess_axes(picture.array.shape)
        if (picture.channel_names or ())[:3] == _COLOURS:  # OME-Zarr has the colours first
            colours_last = Axes(f"{axes.coordinates}C")
            array, axes = _in_order(array, axes, colours_last), colours_last
        return array, axes, picture
    pictures = [read_image(path, frame=frame) for frame in range(frames)]
    return np.stack([picture.array for picture in pictures]), Axes(f"T{pictures[0].axes}"), pictures[0]


def _in_order(array: npt.NDArray[Any], axes: str, target_axes: str) -> npt.NDArray[Any]:
    """Return an array with the axes of a file in another order. Missing axes are added with one entry.

    Files leave out axes of one entry.
    """
    array = array.transpose([axes.index(letter) for letter in target_axes if letter in axes])
    return np.expand_dims(array, [i for i, letter in enumerate(target_axes) if letter not in axes])


def _placement_of_file(letters: Axes, scale: float, picture: Picture) -> Placement:
    """Return the placement of a result's source file, as napari opens it."""
    n, spacing = len(letters), iter(picture.spacing or ())
    unit = (picture.unit or "pixel").replace("µ", "u")
    in_space = [letter in letters.spatial for letter in letters]
    sizes = [scale * next(spacing, 1 / scale) if inside else 1.0 for inside in in_space]
    units = tuple(unit if inside else "pixel" for inside in in_space)
    return Placement(np.array(sizes), np.zeros(n), np.eye(n), np.eye(n), np.eye(n + 1), units, tuple(letters.lower()))
