"""Views of images as pictures, without matplotlib."""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps

from napari_siren.reporting.views import error_colours


def test_the_colours_of_errors_are_those_of_the_figures() -> None:
    error = np.linspace(-1, 1, 511).reshape(7, 73)
    # The colour map has 256 entries.
    np.testing.assert_allclose(error_colours(error), colormaps["RdBu_r"]((error + 1) / 2)[..., :3], atol=0.02)
    np.testing.assert_array_equal(error_colours(np.array([-9.0, 9.0])), error_colours(np.array([-1.0, 1.0])))
