"""`resolution_scaled_error`: where a restored image disagrees with its image, after the blur is applied again."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from napari_siren.core.forward.operator import pixel_model
from napari_siren.core.image.linear_match import LinearMatch
from napari_siren.core.restoration.pipeline import predicted_pixels
from napari_siren.core.result import FitResult
from napari_siren.errors import InputError


def resolution_scaled_error(result: FitResult) -> npt.NDArray[np.float32]:
    """Map where a result disagrees with its image, as SQUIRREL does for super-resolution.

    The render is blurred and reduced to the image's pixels by the observation model, and its intensities are matched to
    the image by a line (see `LinearMatch`). The map is the difference.

    Parameters
    ----------
    result
        Result of a fit.

    Returns
    -------
    ndarray
        Matched prediction - image, float32, with the fitted axes, in the image's units; 0 for missing pixels. Its root
        mean square is `Metrics.rse`.

    Raises
    ------
    InputError
        The result was loaded from a file, which does not hold the image.

    Notes
    -----
    `FitResult.error` differs in two ways. Its intensities are not matched. And if a blur was removed, it is the
    difference between the sharp result and the blurred image.

    A small error does not prove a restoration. Detail that the blur hides, and that was invented, is not in the map.

    References
    ----------
    S. Culley et al., Quantitative mapping and minimization of super-resolution optical imaging artifacts, Nature
    Methods 15 (2018), doi 10.1038/nmeth.4605.

    Examples
    --------
    >>> import numpy as np, napari_siren as ns
    >>> from scipy.ndimage import gaussian_filter
    >>> image = gaussian_filter(np.random.default_rng(0).random((32, 32)), 2).astype(np.float32)
    >>> result = ns.fit(image, preset="deblur", psf_width=3.0, max_steps=20)
    >>> error = ns.resolution_scaled_error(result)
    >>> bool(np.abs(error).mean() < np.abs(result.error).mean())
    True
    """
    samples, field, config = result.samples, result.field, result.config
    if samples is None:
        raise InputError("a loaded result has no image to compare with. Map the error right after the fit.")
    layout = samples.layout
    removes_blur = config.restoration is not None and config.restoration.removes == "blur"
    prediction = predicted_pixels(field, pixel_model(config, layout.spacing) if removes_blur else None)
    match = LinearMatch.from_prediction(samples, prediction)
    lines = (np.reshape(numbers, (-1, *(1,) * len(layout.spatial_shape))) for numbers in (match.slope, match.intercept))
    image, predicted = (layout.to_channels_first(values).astype(np.float64) for values in (samples.image, prediction))
    slope, intercept = lines
    error = np.where(samples.observed, slope * predicted + intercept - image, 0.0)
    return np.ascontiguousarray(layout.from_channels_first(error), dtype=np.float32)
