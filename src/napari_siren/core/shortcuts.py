"""`upscale`, `denoise`, `deblur`, `isotropic`: from an image to a better image, in one call."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt

from napari_siren.core.field.tiling import RenderGrid
from napari_siren.core.fit import fit
from napari_siren.core.image.arrays import ImageInput
from napari_siren.core.image.axes import Axes, cubic_scale, spacing_in_space
from napari_siren.core.image.frames import take_frames
from napari_siren.core.image.samples import Samples
from napari_siren.core.options import FitOptions, copy_options
from napari_siren.core.preprocessing.gradients import preparation
from napari_siren.core.series.entries import (
    check_series_size,
    fit_entries,
    is_one_by_one,
    settings_of,
    shared_arguments,
    split_series,
    stack_frames,
)
from napari_siren.core.settings.config import FitConfig, detail_for
from napari_siren.core.settings.per_axis import per_axis
from napari_siren.core.settings.presets import PresetName


def upscale(
    image: npt.ArrayLike,
    scale: float | Sequence[float] = 2,
    *,
    axes: str | None = None,
    spacing: float | Sequence[float] | None = None,
    **options: Unpack[FitOptions],
) -> Any:
    """Enlarge an image: fit it with the preset "upscale", and render the result.

    Parameters
    ----------
    image
        Array, xarray.DataArray or dask array, as for `fit`. A dask array is read into memory. The frames of a time
        series, with an axis T, are enlarged one by one, as in `fit_series`.
    scale
        Number of output pixels per pixel: a number, or one for each spatial axis.
    axes, spacing
        Letters of the axes, and distance between pixel centres, as for `fit`.
    **options
        Any other arguments of `fit`.

    Returns
    -------
    ndarray, DataArray or dask array
        Enlarged image, of the same kind as `image`, with its order of axes and dtype.

    Raises
    ------
    SirenError
        The same errors as those of `fit`, and `InputError` if a scale is not positive.

    Examples
    --------
    >>> import numpy as np, napari_siren as ns
    >>> ns.upscale(np.eye(16, dtype=np.float32), 2).shape
    (32, 32)
    """
    if options.get("config") is None:
        scales = per_axis("scale", scale, max(1, np.size(scale)))
        options = {"preset": "upscale", "detail": detail_for(list(scales)), **options}
    if (series := _Series.from_arguments(image, axes, spacing, options)) is not None:
        return _of_same_kind(image, series.restored(scale))
    whole = _prepared(image, axes, spacing, scale, options)
    plain = copy_options(options, axes=whole.axes, spacing=whole.spacing, missing=whole.missing)
    return _of_same_kind(image, fit(whole.image, **plain).render(scale=scale))


def denoise(
    image: npt.ArrayLike,
    *,
    axes: str | None = None,
    spacing: float | Sequence[float] | None = None,
    **options: Unpack[FitOptions],
) -> Any:
    """Remove the noise of an image: fit it with the preset "denoise", and render the result.

    Parameters
    ----------
    image, axes, spacing
        The image, its axes and the distance between its pixel centres, as for `fit`. The stacks of a time series (axes
        TZYX) are denoised one by one, as in `fit_series`, and a film of planes (TYX) as a whole.
    **options
        Any other arguments of `fit`, such as `camera_gain`.

    Returns
    -------
    ndarray, DataArray or dask array
        Image without noise, of the same kind, shape and dtype as `image`.

    Raises
    ------
    SirenError
        The same errors as those of `fit`.

    Examples
    --------
    >>> import numpy as np, napari_siren as ns
    >>> clean = np.hypot(*np.mgrid[-16:16, -16:16]).astype(np.float32)
    >>> noisy = clean + np.random.default_rng(0).normal(0, 2, clean.shape).astype(np.float32)
    >>> denoised = ns.denoise(noisy)
    >>> bool(np.abs(denoised - clean).mean() < np.abs(noisy - clean).mean() / 2)
    True
    """
    return _restored("denoise", image, axes, spacing, options)


def deblur(
    image: npt.ArrayLike,
    *,
    axes: str | None = None,
    spacing: float | Sequence[float] | None = None,
    **options: Unpack[FitOptions],
) -> Any:
    """Remove the blur of an image: fit it with the preset "deblur", and render the result.

    Parameters
    ----------
    image, axes, spacing
        The image, its axes and the distance between its pixel centres, as for `fit`. The frames of a time series, with
        an axis T, are restored one by one, as in `fit_series`.
    **options
        Any other arguments of `fit`. `psf` is a measured point spread function, and `psf_width` the width of a Gaussian
        one. Without them, the width is estimated from the image.

    Returns
    -------
    ndarray, DataArray or dask array
        Sharper image, of the same kind, shape and dtype as `image`.

    Raises
    ------
    SirenError
        The same errors as those of `fit`.

    Examples
    --------
    >>> import numpy as np, napari_siren as ns
    >>> from scipy.ndimage import gaussian_filter
    >>> sharp = np.zeros((32, 32), np.float32)
    >>> sharp[8:24:4, 8:24:4] = 100
    >>> blurred = gaussian_filter(sharp, 1.5)
    >>> deblurred = ns.deblur(blurred, psf_width=3.5)
    >>> bool(deblurred.max() > 2 * blurred.max())
    True
    """
    return _restored("deblur", image, axes, spacing, options)


def isotropic(
    image: npt.ArrayLike,
    *,
    axes: str | None = None,
    spacing: float | Sequence[float] | None = None,
    **options: Unpack[FitOptions],
) -> Any:
    """Make the pixels of a stack cubic: fit it with the preset "upscale", and render it with equal spacing.

    The new spacing along all axes is the smallest spacing of the image.

    Parameters
    ----------
    image, axes
        The image and its axes, as for `fit`. The stacks of a time series, with an axis T, are done one by one, as in
        `fit_series`.
    spacing
        Distance between pixel centres for each spatial axis. None takes it from the coordinates of a DataArray.
    **options
        Any other arguments of `fit`.

    Returns
    -------
    ndarray, DataArray or dask array
        Image with equal spacing, of the same kind as `image`, with its order of axes and dtype.

    Raises
    ------
    SirenError
        The same errors as those of `fit`, and `InputError` if the spacing is unknown, or equal along all axes.

    Examples
    --------
    >>> import numpy as np, napari_siren as ns
    >>> stack = np.random.default_rng(0).random((6, 24, 24), dtype=np.float32)
    >>> ns.isotropic(stack, axes="ZYX", spacing=(2, 1, 1), task_steps=20, max_steps=20).shape
    (12, 24, 24)
    """
    given = ImageInput.from_arguments(image, axes, spacing)
    scale = cubic_scale(given.spacing, given.prepared()[1].axes)
    return upscale(image, scale, axes=axes, spacing=spacing, **options)


def _restored(
    preset: PresetName,
    image: npt.ArrayLike,
    axes: str | None,
    spacing: float | Sequence[float] | None,
    options: FitOptions,
) -> Any:
    """Fit an image with a preset, and return the render at the resolution of the image."""
    if options.get("config") is None:
        options = {"preset": preset, **options}
    if (series := _Series.from_arguments(image, axes, spacing, options)) is not None:
        return _of_same_kind(image, series.restored(None))
    return _of_same_kind(image, fit(image, **copy_options(options, axes=axes, spacing=spacing)).render())


@dataclass(frozen=True, eq=False)
class _Series:
    """A time series, to restore frame by frame.

    Parameters
    ----------
    given
        The series, with its axes, spacing and missing pixels.
    settings
        Settings of the fits.
    same
        Other arguments of the fits.
    """

    given: ImageInput
    settings: FitConfig
    same: FitOptions

    @classmethod
    def from_arguments(
        cls, image: npt.ArrayLike, axes: str | None, spacing: float | Sequence[float] | None, options: FitOptions
    ) -> _Series | None:
        """Return the series, or None if the image is fitted as a whole."""
        given = ImageInput.from_arguments(image, axes, spacing, options.get("missing"))
        if not isinstance(given.axes, str) or "T" not in given.axes.upper() or options.get("axes_as_coordinates"):
            return None
        settings = settings_of(options)
        if not is_one_by_one(given.axes, np.shape(given.image), settings):
            return None
        return cls(given, settings, shared_arguments(options))

    def restored(self, scale: float | Sequence[float] | None) -> Any:
        """Fit the frames, and return their renders as one array, with the labels of the series."""
        given, positions = self.given, dict[int, npt.NDArray[np.float64]]()
        entries, _, axes = split_series(given.image, given.axes, given.spacing, given.missing)
        count, time = len(entries), Axes(axes).index("T")
        self._check_size(entries[0], scale, count)

        def frames() -> Iterator[npt.NDArray[Any]]:
            for result in fit_entries(entries, count, self.settings, self.same):
                grid, letters = result.grid(scale=scale), result.field.layout.axes.coordinates
                positions.update({axes.index(a): grid.positions(i) - 0.5 for i, a in enumerate(letters)})
                yield result.render(scale=scale)

        rendered = stack_frames(frames(), count, time)
        return rendered if given.labels is None else given.labels.attached(rendered, positions)

    def _check_size(self, entry: Mapping[str, Any], scale: float | Sequence[float] | None, count: int) -> None:
        """Check the scale, and the size of the result, before the first fit."""
        plain, form = ImageInput(**entry).prepared()
        pixels = Axes(plain.axes or "").pick(np.shape(plain.image))
        grid = RenderGrid.from_shape(pixels, (1.0,) * len(pixels), scale=form.without_singletons(scale))
        check_series_size(count, grid.shape, entry["image"].nbytes / math.prod(pixels))


def _of_same_kind(image: Any, rendered: Any) -> Any:
    """Return a render as a dask array if the image is one."""
    if not type(image).__module__.startswith("dask."):
        return rendered
    import dask.array

    array: Any = dask.array
    return array.from_array(rendered)


def _prepared(
    image: npt.ArrayLike,
    axes: str | None,
    spacing: float | Sequence[float] | None,
    scale: float | Sequence[float],
    options: FitOptions,
) -> ImageInput:
    """Check the scale against the image, because an invalid one must raise an error before the fit.

    Returns
    -------
    ImageInput
        The image to fit, and its axes, spacing and missing pixels.
    """
    coordinates = options.get("axes_as_coordinates")
    given = first = ImageInput.from_arguments(image, axes, spacing, options.pop("missing", None))
    if given.axes is not None and "T" in given.axes.upper() and coordinates is None:
        given = replace(given, spacing=spacing_in_space(given.spacing, given.axes))
        frames, letters = take_frames(given.image, given.axes)
        first = replace(given, image=frames[0], axes=letters)
    prepared = preparation(options.pop("supervision", "value")).prepare(
        first.image, first.axes, first.spacing, first.missing
    )
    first = replace(first, axes_as_coordinates=coordinates)
    plain, form = replace(first, image=prepared.image, missing=prepared.missing).prepared()
    layout = Samples.from_array(
        plain.image, plain.axes, plain.spacing, plain.missing, axes_as_coordinates=plain.axes_as_coordinates
    ).layout
    RenderGrid.from_layout(layout, scale=form.without_singletons(scale))
    whole = image if first.image is not given.image or prepared.image is given.image else prepared.image
    return replace(given, image=whole, missing=prepared.missing)
