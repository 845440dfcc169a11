"""`restored_resolution`: resolution before and after a restoration, by two images with independent noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from napari_siren.core.image.arrays import ImageInput
from napari_siren.core.image.samples import Samples
from napari_siren.core.noise.model import noise_models
from napari_siren.core.resolution.measure import Resolution, at_crossings, image_planes, without_rings
from napari_siren.core.resolution.rings import Rings, RingSums
from napari_siren.core.settings.config import FitConfig
from napari_siren.errors import InputError

# Correlation with the scene at the resolution (Rosenthal and Henderson 2003).
_THRESHOLD = 0.5


@dataclass(frozen=True, eq=False)
class RestoredResolution:
    """The resolution of an image and of its restoration.

    Both are measured by the correlation with the scene without noise, which falls below 1/2 at the resolution.

    Parameters
    ----------
    before
        Resolution of the image. Its `correlation` is that with the scene.
    after
        Resolution of the restored image, with the same rings.
    """

    before: Resolution
    after: Resolution


def restored_resolution(
    image: npt.ArrayLike,
    restore: Callable[[npt.NDArray[Any]], npt.ArrayLike],
    *,
    other: npt.ArrayLike | None = None,
    axes: str | None = None,
    spacing: float | Sequence[float] | None = None,
    camera_gain: float | Literal["auto"] = "auto",
    camera_offset: float = 0.0,
    read_noise: float = 0.0,
    seed: int = 0,
) -> RestoredResolution:
    """Measure the resolution of an image before and after a restoration.

    The image is split into two images with half of the light each and independent noise. Both are restored. The
    restoration of each is correlated with the *other* image before its restoration, in rings of equal frequency.

    Parameters
    ----------
    image, axes, spacing
        The image, its axes and the distance between its pixel centres, as for `fit`.
    restore
        Function from an image to the restored image of the same shape, such as `napari_siren.denoise`. It is called
        twice, with float32 arrays if the image is split.
    other
        Second image of the same scene with independent noise, such as the next frame. Then no image is split, and the
        camera and the seed are not used.
    camera_gain, camera_offset, read_noise
        Noise of the camera, as in `FitConfig`. "auto" estimates the noise from the image.
    seed
        Seed of the noise that splits the image.

    Returns
    -------
    RestoredResolution
        Resolution and curves of each channel, before and after. A resolution is None, with a reason, if it is finer
        than the detail that the noise of the image hides, or for the reasons in `resolution`.

    Raises
    ------
    InputError
        The image has a time axis, or fewer than two spatial axes, or `other` or a restored image has another shape, or
        values that are not finite.

    Notes
    -----
    The pixels of a restored image must not be split, because neighbours are correlated: such a figure is up to four
    times too fine. The correlation of two restored images is too high as well, because it counts errors that a
    restoration makes in both. The noise of the other image is independent of these errors. Its correlation with a
    restoration is therefore that of the scene, apart from a factor, the square root of the correlation of the two
    images (docs/guide/stacks.md has measurements).

    The image y is split into y + s n and y - s n, with normal numbers n and the standard deviation s of the noise at
    each pixel. Their noise is uncorrelated, as after the binomial split of photons (Rieger et al. 2024), but also with
    read noise. Each has half of the light. Therefore both figures are coarser than those of the whole image.

    The figure is a limit by noise. A filter does not change the correlation in a ring. Therefore neither smoothing nor
    the removal of a blur improves it by itself, and detail that pixels cannot resolve is not measured.

    References
    ----------
    B. Rieger et al., Single image Fourier ring correlation, Optics Express 32, 21767 (2024).
    P. Rosenthal and R. Henderson, Optimal determination of particle orientation, absolute hand, and contrast loss in
    single-particle electron cryomicroscopy, Journal of Molecular Biology 333 (2003), doi 10.1016/j.jmb.2003.07.013.

    Examples
    --------
    >>> import numpy as np, napari_siren as ns
    >>> from scipy.ndimage import gaussian_filter
    >>> rng = np.random.default_rng(0)
    >>> frame = rng.poisson(100 * np.exp(3 * gaussian_filter(rng.normal(size=(128, 128)), 3)))
    >>> measured = ns.restored_resolution(frame, lambda half: gaussian_filter(half, 1), spacing=0.1)
    >>> round(measured.before.pixels[0]), round(measured.after.pixels[0])
    (6, 6)
    """
    planes, sides, reason = image_planes(image, axes, spacing)
    if other is not None and reason is None:
        reason = _checked(other, planes.shape, axes, spacing, "second image")[1]
    if reason is not None:
        nothing = without_rings(len(planes), reason)
        return RestoredResolution(nothing, nothing)
    if other is None:
        pair = _halves(image, axes, spacing, _camera(camera_gain, camera_offset, read_noise), seed)
    else:
        pair = np.asarray(image), np.asarray(other)
    first, second = (image_planes(values, axes, spacing)[0] for values in pair)
    restored = [_restored(restore(values), planes.shape, axes, spacing) for values in pair]
    rings = Rings.from_plane(planes.shape[2:], sides, split=False)
    channels = [_Channel.from_planes(rings, *values) for values in zip(first, second, *restored, strict=True)]
    return RestoredResolution(
        _resolution(rings, [c.before for c in channels], [c.measurable for c in channels]),
        _resolution(rings, [c.after for c in channels], [c.measurable for c in channels]),
    )


@dataclass(frozen=True)
class _Channel:
    """The correlations of a channel with its scene.

    Parameters
    ----------
    before, after
        (rings,), float64: correlation of the image and of the restored image with the scene.
    measurable
        Number of rings in which the two images are correlated.
    """

    before: npt.NDArray[np.float64]
    after: npt.NDArray[np.float64]
    measurable: int

    @classmethod
    def from_planes(
        cls,
        rings: Rings,
        first: npt.NDArray[Any],
        second: npt.NDArray[Any],
        first_restored: npt.NDArray[Any],
        second_restored: npt.NDArray[Any],
    ) -> _Channel:
        """Return the correlations from two images and their restorations, (planes, rows, columns)."""
        images = RingSums.from_planes(rings, first, second)
        across = [
            RingSums.from_planes(rings, *planes) for planes in ((first_restored, second), (second_restored, first))
        ]
        correlation = images.correlation()
        scene = np.maximum(images.cross, 0)
        power = sum(sums.power for sums in across)
        scale = np.sqrt(power * scene * 2)
        total = sum(sums.cross for sums in across)
        after = np.divide(total, scale, out=np.zeros_like(scale), where=scale > 0)
        return cls(np.sqrt(np.maximum(correlation, 0)), np.clip(after, -1, 1), images.measurable())


def _camera(gain: float | Literal["auto"], offset: float, read_noise: float) -> FitConfig:
    return FitConfig.preset("denoise", camera_gain=gain, camera_offset=offset, read_noise=read_noise)


def _halves(
    image: npt.ArrayLike, axes: str | None, spacing: float | Sequence[float] | None, config: FitConfig, seed: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return two images of half the light and independent noise, with the shape of the image."""
    given, _ = ImageInput.from_arguments(image, axes, spacing).prepared()
    samples = Samples.from_array(given.image, given.axes, given.spacing, given.missing)
    layout = samples.layout
    values = layout.to_channels_first(samples.image).astype(np.float64)
    noise = np.random.default_rng(seed).standard_normal(values.shape)
    for channel, model in enumerate(noise_models(samples, config)):
        offset, scale = layout.offset[channel], layout.scale[channel] or 1.0
        noise[channel] *= scale * np.sqrt(model.variance((values[channel] - offset) / scale))
    shape = np.shape(image)
    first, second = (
        layout.from_channels_first(v).reshape(shape).astype(np.float32) for v in (values + noise, values - noise)
    )
    return first, second


def _restored(
    values: npt.ArrayLike, shape: tuple[int, ...], axes: str | None, spacing: float | Sequence[float] | None
) -> npt.NDArray[Any]:
    planes, reason = _checked(np.asarray(values), shape, axes, spacing, "restored image")
    if reason is not None:
        raise InputError("the restored image has values that are not finite. Replace them.")
    return planes


def _checked(
    values: npt.ArrayLike,
    shape: tuple[int, ...],
    axes: str | None,
    spacing: float | Sequence[float] | None,
    name: str,
) -> tuple[npt.NDArray[Any], str | None]:
    """Return the planes of an image and why there are no rings, or raise an error if the planes differ from a shape."""
    planes, _, reason = image_planes(values, axes, spacing)
    if planes.shape != shape:
        raise InputError(f"the {name} and the image differ in shape. Give images with the same pixels.")
    return planes, reason


def _resolution(rings: Rings, curves: list[npt.NDArray[np.float64]], measurable: list[int]) -> Resolution:
    """Return the resolution of each channel from its correlation with the scene."""
    crossings = [_crossing(rings, *pair) for pair in zip(curves, measurable, strict=True)]
    return at_crossings(rings, np.stack(curves), crossings)


def _crossing(rings: Rings, curve: npt.NDArray[np.float64], measurable: int) -> tuple[float | None, str | None]:
    """Return the frequency of the first fall of a curve below 1/2, or None and the reason."""
    below = np.flatnonzero(curve[:measurable] < _THRESHOLD)
    if not measurable or (below.size and not below[0]):
        return None, "the correlation is not above that of noise: the image has too little contrast"
    if not below.size and measurable == len(curve):
        return (
            None,
            "the images are correlated at all frequencies: the scene is finer than the pixels, or noise is shared",
        )
    if not below.size:
        finest = 1 / (rings.frequency[measurable - 1] * rings.longest)
        return None, f"the resolution is about {finest:.1f} pixels or finer: noise hides finer detail of the scene"
    pair = slice(below[0] - 1, below[0] + 1)
    return float(np.interp(-_THRESHOLD, -curve[pair], rings.frequency[pair])), None
