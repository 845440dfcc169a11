"""`LinearMatch`: two images compared after a linear match of their intensities."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_siren.core.image.samples import Samples


@dataclass(frozen=True)
class LinearMatch:
    """The line of least squares through the pixels of an image and their prediction, for each channel.

    The image is predicted as ``slope * prediction + intercept``.

    Parameters
    ----------
    slope, intercept
        Line of each channel. The slope is 0 if the prediction is constant.
    rse
        Resolution-scaled error: root mean square of the differences from the lines, over the observed pixels of all
        channels, in the image's units.
    rsp
        Resolution-scaled Pearson correlation of image and prediction, -1 to 1, averaged over the channels. None if a
        channel of the image or of the prediction is constant.

    References
    ----------
    S. Culley et al., Quantitative mapping and minimization of super-resolution optical imaging artifacts, Nature
    Methods 15 (2018), doi 10.1038/nmeth.4605.
    """

    slope: tuple[float, ...]
    intercept: tuple[float, ...]
    rse: float
    rsp: float | None

    @classmethod
    def from_prediction(cls, samples: Samples, prediction: npt.NDArray[Any]) -> LinearMatch:
        """Return the match of an image and a prediction of its pixels.

        Parameters
        ----------
        samples
            Samples of the image.
        prediction
            Array of the image's shape, as the observation model predicts it.

        Examples
        --------
        >>> import numpy as np
        >>> image = np.random.default_rng(0).random((16, 16))
        >>> match = LinearMatch.from_prediction(Samples.from_array(image), 3 * image + 2)
        >>> round(match.slope[0], 6), round(match.rsp, 6), match.rse < 1e-6
        (0.333333, 1.0, True)
        """
        pair = (samples.layout.to_channels_first(values) for values in (samples.image, prediction))
        lines = [_line(image[samples.observed], known[samples.observed]) for image, known in zip(*pair, strict=True)]
        slopes, intercepts, errors, correlations = zip(*lines, strict=True)
        constant = any(correlation is None for correlation in correlations)
        # The largest error is divided out, because squares of the values of some images are out of range.
        largest = max(errors) or 1.0
        rse = largest * math.sqrt(sum((error / largest) ** 2 for error in errors) / len(errors))
        return cls(slopes, intercepts, rse, None if constant else sum(correlations) / len(correlations))


def _line(image: npt.NDArray[Any], prediction: npt.NDArray[Any]) -> tuple[float, float, float, float | None]:
    """Return the slope and the intercept of a line, the root mean square about it, and the correlation."""
    (y, mean, scale), (x, level, spread) = _standardised(image), _standardised(prediction)
    if not (scale and spread):
        return 0.0, mean, scale, None
    correlation = float(np.clip((x * y).mean(), -1, 1))
    slope = correlation * scale / spread
    error = scale * math.sqrt(float(np.square(y - correlation * x).mean()))
    return slope, mean - slope * level, error, correlation


def _standardised(values: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float64], float, float]:
    """Return values with mean 0 and standard deviation 1, and both numbers before. A constant is left as zeros."""
    wide = values.astype(np.float64)
    mean = float(wide.mean())
    wide -= mean
    largest = float(np.abs(wide).max())
    # Values that differ by their rounding only are constant.
    if largest <= 4 * np.finfo(np.float64).eps * abs(mean):
        return np.zeros_like(wide), mean, 0.0
    wide /= largest
    deviation = math.sqrt(float(np.square(wide).mean()))
    wide /= deviation
    return wide, mean, largest * deviation
