"""`Components`: the components of an image that pretrained networks see."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from napari_siren.core.image.samples import ImageLayout

# Luminance of BT.601, and two differences of colours. Equal channels have only luminance.
_COLOURS = np.array([[0.299, 0.587, 0.114], [0.5, 0.0, -0.5], [0.25, -0.5, 0.25]])
# Value of the differences for grey, so that all components are about in 0 to 1.
_GREY = np.array([0.0, 0.5, 0.5])
_WHITE = 255.0


class Components:
    """A linear transform of the channels: to luminance and colour differences, or of each channel by itself.

    Parameters
    ----------
    layout
        Layout of the image. Three channels as the last axis are colours.
    absolute
        Whether the components of 8-bit images are shares of white. Otherwise, and for other dtypes, the normalised
        values from -1 to 1 become 0 to 1.
    """

    def __init__(self, layout: ImageLayout, absolute: bool) -> None:
        channels = layout.channels
        self.absolute = absolute
        self.are_colours = channels == 3 and layout.axes.endswith("C")
        if absolute and layout.dtype == "uint8":
            self._offset, self._scale = np.array(layout.offset) / _WHITE, np.array(layout.scale) / _WHITE
        else:
            self._offset, self._scale = np.full(channels, 0.5), np.full(channels, 0.5)
        # A constant channel has the scale 0.
        self._scale = np.where(self._scale > 0, self._scale, 1.0)
        self._matrix = _COLOURS if self.are_colours else np.eye(channels)
        self._shift = _GREY if self.are_colours else np.zeros(channels)

    def split(self, values: Tensor) -> Tensor:
        """Return the components of normalised channels, (channels, rows, columns)."""
        unit = self._column(self._offset, values) + self._column(self._scale, values) * values
        return self._product(self._matrix, unit) + self._column(self._shift, values)

    def join(self, components: Tensor) -> Tensor:
        """Return the normalised channels of components: the inverse of `split`."""
        unit = self._product(np.linalg.inv(self._matrix), components - self._column(self._shift, components))
        return (unit - self._column(self._offset, unit)) / self._column(self._scale, unit)

    def variances(self, channels: Tensor) -> Tensor:
        """Return the noise variances of the components, from those of the normalised channels."""
        return self._product(np.square(self._matrix), self._column(np.square(self._scale), channels) * channels)

    @property
    def per_luminance(self) -> list[float]:
        """Change of each normalised channel for a change of the luminance by 1 without a change of colours."""
        shares: list[float] = (1 / self._scale).tolist()
        return shares

    @staticmethod
    def _column(numbers: np.ndarray, like: Tensor) -> Tensor:
        return torch.from_numpy(numbers).to(like)[:, None, None]

    @staticmethod
    def _product(matrix: np.ndarray, values: Tensor) -> Tensor:
        return torch.einsum("oc,cyx->oyx", torch.from_numpy(matrix).to(values), values)
