"""`upscale`, `denoise`, `deblur`, `isotropic`: from an image to a better image, in one call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Unpack

import numpy.typing as npt

from napari_siren.core.config import detail_for
from napari_siren.core.field.tiling import RenderGrid
from napari_siren.core.fit import fit
from napari_siren.core.image.arrays import ImageInput
from napari_siren.core.image.axes import cubic_scale, spacing_in_space
from napari_siren.core.image.frames import take_frames
from napari_siren.core.image.samples import Samples
from napari_siren.core.options import FitOptions, copy_options
from napari_siren.core.preprocessing.gradients import preparation
from napari_siren.core.presets import PresetName


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
        Array, xarray.DataArray or dask array, as for `fit`. A dask array is read into memory.
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
    whole = _prepared(image, axes, spacing, scale, options)
    if options.get("config") is None:
        options = {"preset": "upscale", "detail": detail_for(scale), **options}
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
        The image, its axes and the distance between its pixel centres, as for `fit`.
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
        The image, its axes and the distance between its pixel centres, as for `fit`.
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
        The image and its axes, as for `fit`.
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
    return _of_same_kind(image, fit(image, **copy_options(options, axes=axes, spacing=spacing)).render())


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
