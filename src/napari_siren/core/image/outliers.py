"""Values far outside the range of an image, such as hot pixels of a camera."""

from __future__ import annotations

import numpy as np

from napari_siren.core.image.samples import Samples

# Normalised values beyond it are outliers. Of all values of an image, 99.8 % lie between -1 and 1.
_LIMIT = 100


def outlier_note(samples: Samples) -> str | None:
    """Return a note on the outliers of an image, or None if it has none.

    The error of a fit is relative to the largest contrast in a tile. An outlier therefore raises the error around it.

    Examples
    --------
    >>> import numpy as np
    >>> from napari_siren.core.image.samples import Samples
    >>> image = np.tile(np.arange(40.0), (40, 1))
    >>> outlier_note(Samples.from_array(image)) is None
    True
    >>> image[20, 20] = 65535
    >>> outlier_note(Samples.from_array(image))[:46]
    '1 value is far outside the range of the others'
    """
    count = int((np.abs(samples.values[:, samples.used]) > _LIMIT).sum())
    if not count:
        return None
    values = "1 value is" if count == 1 else f"{count} values are"
    return (
        f"{values} far outside the range of the others, and the error around is larger; mark such pixels as missing to "
        "fit the others well"
    )
