"""A batch as a background task: layers handed over as files, what it tells, and its results as layers. No Qt."""

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

from napari_siren.errors import InputError
from napari_siren.io.ngff import unit_symbol
from napari_siren.layers.outputs import scale_label
from napari_siren.layers.reading import Placement, attribute, axis_kind, layer_title, to_array
from napari_siren.layers.spec import LayerData, LayerSpec
from napari_siren.ui.logic.fit_task import load_torch

if TYPE_CHECKING:
    from napari_siren.batch.manifest import Entry
    from napari_siren.batch.report import BatchReport
    from napari_siren.batch.run import BatchProgress
    from napari_siren.io.images import Picture

_NEWS_SECONDS = 0.1
_COLOURS = ("red", "green", "blue")
_LAYER_SUFFIX = ".ome.tif"
# What not every system takes in the name of a file.
_NO_NAME = re.compile(r'[\\/:*?"<>|\x00-\x1f]')


@dataclass(frozen=True, eq=False)
class BatchRequest:
    """What to do.

    Parameters
    ----------
    inputs
        Files, folders and patterns, as `batch` takes them.
    layers
        What else is taken: layers whose pixels need not have been read, by the names of their results; see
        `name_layers`.
    out
        Folder of the results.
    options
        The other arguments of `batch`.
    """

    inputs: tuple[str | Path, ...]
    layers: Mapping[str, LayerSpec]
    out: Path
    options: Mapping[str, Any]

    def layer_of(self, entry: Entry) -> LayerSpec | None:
        """Return the layer that an image of the batch is; None where it is a file."""
        return self.layers.get(Path(entry.input).name.removesuffix(_LAYER_SUFFIX))


@dataclass(frozen=True, eq=False)
class BatchOutcome:
    """How a batch ended.

    Parameters
    ----------
    report
        What was done; None where it could not begin.
    error
        Why it could not.
    """

    report: BatchReport | None = None
    error: Exception | None = None


def run_batch(request: BatchRequest, stop: threading.Event) -> Generator[list[BatchProgress], None, BatchOutcome]:
    """Run a batch, telling the news several times a second; never raises.

    Yields
    ------
    list of BatchProgress
        All that came since the last one.

    Returns
    -------
    BatchOutcome
        With the report, also of a batch that was stopped.
    """
    news: SimpleQueue[BatchProgress | None] = SimpleQueue()
    # What a batch tells comes from several threads, and while it waits.
    with ThreadPoolExecutor(1, "napari-siren batch") as pool:
        work = pool.submit(_run, request, stop, news.put)
        work.add_done_callback(lambda _: news.put(None))
        while (first := news.get()) is not None:
            time.sleep(_NEWS_SECONDS)
            rest = [news.get() for _ in range(news.qsize())]
            yield [first, *(progress for progress in rest if progress is not None)]
            if None in rest:
                break
        return work.result()


def whole_layer(layer: Any, each: bool) -> LayerSpec:
    """Return what of a layer a batch takes: all of it, of a multiscale layer the finest level; no pixel is read.

    Parameters
    ----------
    layer
        An image layer of napari.
    each
        Whether a time series is taken frame by frame.

    Raises
    ------
    InputError
        As `LayerSpec.of`, or it is a time series that is to be taken as one image.
    """
    times = [i for i, label in enumerate(attribute(layer, "axis_labels", ())) if axis_kind(label) == "T"]
    if len(times) != 1:
        return LayerSpec.of(layer, lazily=True)
    if not each:
        raise InputError(f"{layer_title(layer)} is a time series. Tick “Each frame of a time series by itself”.")
    [time_axis] = times
    first = LayerSpec.of(layer, plane=[0 if i == time_axis else None for i in range(layer.ndim)], lazily=True)
    finest = layer.data[0] if layer.multiscale else layer.data
    return replace(
        first,
        shape=tuple(finest.shape[: layer.ndim]),
        axes=first.axes[:time_axis] + "T" + first.axes[time_axis:],
        held=(),
        read=lambda: to_array(finest, layer),
    )


def name_layers(layers: Iterable[LayerSpec]) -> dict[str, LayerSpec]:
    """Return each layer a name for its file, of which no two are the same whatever a system makes of capitals."""
    named: dict[str, LayerSpec] = {}
    taken: set[str] = set()
    for layer in layers:
        plain = name = _NO_NAME.sub("_", layer.name).strip(" .") or "layer"
        number = 1
        while name.casefold() in taken:
            number += 1
            name = f"{plain} {number}"
        taken.add(name.casefold())
        named[name] = layer
    return named


def result_layer(path: Path, scale: float, source: LayerSpec | None = None) -> LayerData:
    """Make a layer of a result, over the image that it was made of.

    Parameters
    ----------
    path
        File of the result.
    scale
        Output pixels per pixel.
    source
        The layer that it was made of; of a file that is opened in napari its first pixel is at the origin.

    Raises
    ------
    InputError
        The file is not there, or not an image.
    """
    array, axes, picture = _read(path)
    if source is None:
        rgb = axes.endswith("C") and array.ndim > 2 and array.shape[-1] in (3, 4)
        letters, name, display = axes[: len(axes) - rgb], path.name.removesuffix(path.suffix).removesuffix(".ome"), {}
        placement = _placement_of_file(letters, scale, picture)
    else:
        rgb, letters, name, display = source.rgb, source.axes[: len(source.shape)], source.name, dict(source.display)
        array, placement = _in_order(array, axes, source.axes), source.placement
    # An axis of one entry is left as it is.
    factors = [scale if letter in axes and letter not in "TC" else 1.0 for letter in letters]
    meta = {"name": f"{name} [{scale_label(scale)}]", "rgb": rgb, **placement.resized(factors).as_meta(), **display}
    return array, meta, "image"


def _run(request: BatchRequest, stop: threading.Event, tell: Callable[[BatchProgress], object]) -> BatchOutcome:
    try:
        load_torch()
        from napari_siren.batch.manifest import kept
        from napari_siren.batch.run import fit_batch
        from napari_siren.core.atomic import prepare_folder

        with ExitStack() as ends:
            inputs = [*request.inputs]
            if request.layers:
                place = ends.enter_context(TemporaryDirectory(prefix="layers-", dir=prepare_folder(kept(request.out))))
                inputs += [_write_layer(Path(place), name, layer) for name, layer in request.layers.items()]
            return BatchOutcome(fit_batch(inputs, request.out, on_progress=tell, stop=stop, **request.options))
    except Exception as error:
        return BatchOutcome(error=error)


def _write_layer(folder: Path, name: str, layer: LayerSpec) -> Path:
    """Write a layer with its axes and pixel size. What a file holds counts in a batch, not when it was written."""
    from napari_siren.io.images import write_image

    data, places = layer.loaded().data, layer.placement
    if data is None:
        raise InputError(f"the pixels of {layer.name!r} are no longer there.")
    sizes = {a: (abs(float(s)), u) for a, s, u in zip(layer.axes, places.scale, places.units, strict=False)}
    in_space = [size for a, size in sizes.items() if a not in "TC"]
    units = {unit_symbol(unit) for _, unit in in_space}
    interval, time_unit = sizes.get("T", (0.0, ""))
    return write_image(
        folder / f"{name}{_LAYER_SUFFIX}",
        data,
        layer.axes,
        [size for size, _ in in_space],
        next(iter(units)) if len(units) == 1 else None,
        interval=(interval, "s") if time_unit == "second" else None,
    )


def _read(path: Path) -> tuple[npt.NDArray[Any], str, Picture]:
    """Read a result, time included; give its axes, and what else the file tells."""
    from napari_siren.core.image.axes import guess_axes
    from napari_siren.io.images import outline_image, read_image

    frames = outline_image(path, each=True).frames
    if frames is None:
        picture = read_image(path)
        array, axes = picture.array, picture.axes or guess_axes(picture.array.shape)
        if (picture.channel_names or ())[:3] == _COLOURS:  # of OME-Zarr, which has them first
            last = axes.replace("C", "") + "C"
            array, axes = _in_order(array, axes, last), last
        return array, axes, picture
    pictures = [read_image(path, frame=frame) for frame in range(frames)]
    return np.stack([picture.array for picture in pictures]), f"T{pictures[0].axes}", pictures[0]


def _in_order(array: npt.NDArray[Any], axes: str, wanted: str) -> npt.NDArray[Any]:
    """Bring the axes of a file into a layer's order; those of one entry, which files leave out, come back."""
    array = array.transpose([axes.index(letter) for letter in wanted if letter in axes])
    return np.expand_dims(array, [i for i, letter in enumerate(wanted) if letter not in axes])


def _placement_of_file(letters: str, scale: float, picture: Picture) -> Placement:
    """Return the place of the image that a result was made of, as napari opens it."""
    n, spacing = len(letters), iter(picture.spacing or ())
    unit = (picture.unit or "pixel").replace("µ", "u")
    in_space = [letter not in "TC" for letter in letters]
    sizes = [scale * next(spacing, 1 / scale) if inside else 1.0 for inside in in_space]
    units = tuple(unit if inside else "pixel" for inside in in_space)
    return Placement(np.array(sizes), np.zeros(n), np.eye(n), np.eye(n), np.eye(n + 1), units, tuple(letters.lower()))
