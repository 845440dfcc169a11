"""`PixelConversion`: from the samples that a TIFF file stores to pixels, by its photometric interpretation.

TIFF 6.0: https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf. GDAL's tags: https://gdal.org/drivers/raster/gtiff.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image

from napari_siren.io.colours import suits, to_rgb

# Numbers of tags: ICC profile, nodata of GDAL, and the place of a GeoTIFF.
_PROFILE, _NODATA, _GEO_TAGS = 34675, 42113, (33550, 33922, 34264)
# Compressions whose decoder returns RGB instead of YCbCr: variants of JPEG.
_JPEG = (6, 7, 33007, 34892)
# Orientations: whether rows and columns are exchanged, and then whether Y and X are reversed.
_ORIENTATIONS = {
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}
# Interpretations that Pillow converts, by name in tifffile: mode of Pillow and number of samples.
_MODES = {"SEPARATED": ("CMYK", 4), "YCBCR": ("YCbCr", 3), "CIELAB": ("LAB", 3), "ICCLAB": ("LAB", 3)}
_Alpha = Literal["straight", "premultiplied"]


@dataclass(frozen=True)
class PixelConversion:
    """The conversion of the samples of a TIFF image to pixels.

    Parameters
    ----------
    interpretation
        Photometric interpretation, by its name in tifffile; that of RGB or grey values if nothing is converted.
    dtype
        Dtype of the samples.
    bits
        Number of bits of a sample.
    alpha
        Kind of the alpha channel, which is the last sample, or None.
    palette
        Colours of a palette, (entries, 3), uint8, or None.
    profile
        ICC profile of the samples, or None.
    orientation
        Orientation of the image, 1 to 8. 1 is upright.
    """

    interpretation: str
    dtype: np.dtype[Any]
    bits: int
    alpha: _Alpha | None = None
    palette: npt.NDArray[np.uint8] | None = None
    profile: bytes | None = None
    orientation: int = 1

    @classmethod
    def from_page(cls, page: Any, dtype: np.dtype[Any], index_is_value: bool) -> PixelConversion:
        """Read the tags of a page of tifffile.

        Parameters
        ----------
        page
            First page of the image.
        dtype
            Dtype of the samples.
        index_is_value
            Whether the indices of a palette are the values, as in files of microscopes.
        """
        name = getattr(page.photometric, "name", "MINISBLACK")
        extra = [int(kind) for kind in page.extrasamples]
        alpha: _Alpha | None = None
        if extra and extra[-1] in (1, 2):
            alpha = "premultiplied" if extra[-1] == 1 else "straight"
        if name == "YCBCR" and page.compression in _JPEG:
            name = "RGB"
        if name == "PALETTE" and index_is_value:
            name = "MINISBLACK"
        tag, orientation = page.tags.get(_PROFILE), page.tags.get("Orientation")
        turned = int(orientation.value) if orientation is not None and orientation.count == 1 else 1
        return cls(
            name if name in ("MINISWHITE", "PALETTE", *_MODES) else "RGB",
            dtype,
            int(np.max(page.bitspersample)),
            alpha,
            _palette(page) if name == "PALETTE" else None,
            None if tag is None else bytes(tag.value),
            turned if turned in _ORIENTATIONS else 1,
        )

    @property
    def exchanges(self) -> bool:
        """Whether rows and columns are exchanged."""
        return self.orientation in _ORIENTATIONS and _ORIENTATIONS[self.orientation][0]

    @property
    def is_lazy(self) -> bool:
        """Whether the conversion is possible for an array outside of memory."""
        return self.interpretation in ("RGB", "MINISWHITE") and self.alpha != "premultiplied"

    def place(self, mask: npt.NDArray[np.bool_], axes: str) -> npt.NDArray[np.bool_]:
        """Return a mask of samples with the axes and the orientation of the pixels, without the axis of samples."""
        geometry = replace(self, interpretation="RGB", alpha=None, palette=None)
        placed: npt.NDArray[np.bool_] = geometry(mask, axes)[0]
        # Samples that are not colours stay where they are.
        position = len(axes) - 1 if "S" in axes and self._moves_samples(axes, mask.shape) else axes.find("S")
        return placed if position < 0 else np.any(placed, axis=position, keepdims=False)

    def outline(self, axes: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...], np.dtype[Any]]:
        """Return the axes, shape and dtype of the pixels.

        Parameters
        ----------
        axes, shape
            Axes and shape of the samples, in the letters of tifffile: S for samples.
        """
        sizes = list(shape)
        if "S" in axes and self._moves_samples(axes, shape):
            position = axes.index("S")
            axes = axes[:position] + axes[position + 1 :] + "S"
            sizes.append(sizes.pop(position))
        if self.interpretation == "PALETTE":
            axes, sizes = f"{axes}S", [*sizes, 3]
        elif self._mode(axes, sizes) is not None and self.interpretation == "SEPARATED":
            sizes[-1] -= 1
        if self.exchanges and "X" in axes and "Y" in axes:
            y, x = axes.index("Y"), axes.index("X")
            sizes[y], sizes[x] = sizes[x], sizes[y]
        dtype = np.dtype(np.uint8) if self.interpretation == "PALETTE" else self.dtype
        return axes, tuple(sizes), dtype

    def __call__(self, samples: Any, axes: str) -> tuple[Any, bytes | None, list[str]]:
        """Convert the samples.

        Parameters
        ----------
        samples
            Array of numpy, or a lazy one if `is_lazy`.
        axes
            Axes of the samples.

        Returns
        -------
        tuple
            Pixels with the axes of `outline`, ICC profile of their colours, and notes on the conversion.
        """
        notes: list[str] = []
        if "S" in axes and self._moves_samples(axes, samples.shape):
            order = [i for i, letter in enumerate(axes) if letter != "S"]
            samples, axes = samples.transpose([*order, axes.index("S")]), axes.replace("S", "") + "S"
        profile, mode = self.profile, self._mode(axes, list(samples.shape))
        if self.interpretation == "MINISWHITE":
            samples, inverted = self._inverted(samples)
            notes += [] if inverted else ["white is the lowest value, as in the file"]
        elif self.palette is not None:
            samples, axes, profile = self.palette[np.minimum(samples, len(self.palette) - 1)], f"{axes}S", None
        elif mode is not None:
            samples, profile, notes = self._colours(samples, mode)
        elif self.interpretation not in ("RGB", "MINISBLACK"):
            notes.append(f"the colours ({self.interpretation}) are not converted to RGB")
        if self.alpha == "premultiplied" and "S" in axes:
            samples = _straight(samples)
        if self.orientation != 1 and "X" in axes and "Y" in axes:
            samples = self._upright(samples, axes)
            notes.append("the picture was turned upright, according to its orientation")
        channels = samples.shape[-1] if "S" in axes else 1
        return samples, profile if profile and suits(profile, channels) else None, notes

    def _moves_samples(self, axes: str, shape: tuple[int, ...]) -> bool:
        """Return whether samples in planes are colours. These become the last axis."""
        is_colour = self.interpretation in _MODES or shape[axes.index("S")] in (3, 4)
        return not axes.endswith("S") and is_colour

    def _mode(self, axes: str, shape: list[int]) -> tuple[str, int] | None:
        """Return the mode of Pillow for the colours and its number of samples, or None if Pillow cannot hold them."""
        mode = _MODES.get(self.interpretation)
        if mode is None or not axes.endswith("S") or shape[-1] < mode[1]:
            return None
        deep_cmyk = mode[0] == "CMYK" and self.dtype == np.uint16
        return mode if self.dtype == np.uint8 or deep_cmyk else None

    def _inverted(self, samples: Any) -> tuple[Any, bool]:
        if self.dtype == np.bool_:
            return ~samples, True
        if self.dtype.kind == "u":
            return np.array(2**self.bits - 1, self.dtype) - samples, True
        return (-1 - samples, True) if self.dtype.kind == "i" else (samples, False)

    def _colours(self, samples: npt.NDArray[Any], mode: tuple[str, int]) -> tuple[Any, bytes | None, list[str]]:
        """Return RGB colours, with the other samples behind them."""
        name, count = mode
        colours, rest = samples[..., :count], samples[..., count:]
        if self.dtype == np.uint16:
            inks = colours.astype(np.float64) / 65535
            rgb = np.rint(65535 * (1 - inks[..., :3]) * (1 - inks[..., 3:])).astype(np.uint16)
            profile, notes = None, ["the CMYK colours were converted to RGB"]
        else:
            # Pillow knows planes only: all planes below each other are one.
            plane = np.ascontiguousarray(colours).reshape(-1, colours.shape[-2], count)
            # The planes of CIELAB are signed in TIFF, but not in ICCLAB; Pillow's are signed.
            if self.interpretation == "ICCLAB":
                plane = plane ^ np.array([0, 128, 128], np.uint8)
            image = Image.frombytes(name, (plane.shape[1], plane.shape[0]), plane.tobytes())
            converted, profile, notes = to_rgb(image, self.profile)
            rgb = np.asarray(converted).reshape(*colours.shape[:-1], 3)
        return np.concatenate([rgb, rest], axis=-1), profile, notes

    def _upright(self, pixels: Any, axes: str) -> Any:
        swap, flip_y, flip_x = _ORIENTATIONS[self.orientation]
        y, x = axes.index("Y"), axes.index("X")
        pixels = pixels.swapaxes(y, x) if swap else pixels
        steps = [slice(None)] * pixels.ndim
        steps[y], steps[x] = slice(None, None, -1 if flip_y else 1), slice(None, None, -1 if flip_x else 1)
        return pixels[tuple(steps)]


def nodata_of(page: Any) -> float | None:
    """Return the value of pixels without data, from GDAL's tag, or None."""
    tag = page.tags.get(_NODATA)
    try:
        return None if tag is None else float(str(tag.value).strip("\0 ").replace(",", "."))
    except ValueError:
        return None


def missing_pixels(samples: Any, nodata: float | None) -> Any:
    """Return a mask of the samples with the value of pixels without data; None if there are none.

    The mask of a dask array is a dask array, and may be False everywhere.
    """
    if nodata is None or (math.isnan(nodata) and samples.dtype.kind != "f"):
        return None
    if math.isnan(nodata):
        mask = np.isnan(samples)
    else:
        # A float32 cannot hold every number of the tag.
        with np.errstate(over="ignore"):
            value = np.float64(nodata).astype(samples.dtype) if samples.dtype.kind == "f" else nodata
        mask = samples == value
    return mask if not isinstance(mask, np.ndarray) or mask.any() else None


def mask_page(file: tifffile.TiffFile, shape: tuple[int, ...]) -> int | None:
    """Return the number of the page with the transparency mask of the first, as GDAL has it; None without one."""
    for number, page in enumerate(file.pages[1:8], 1):
        is_mask = getattr(page, "photometric", None) == 4 and int(getattr(page, "subfiletype", 0)) & 4
        if is_mask and tuple(page.shape) == shape:
            return number
    return None


def has_georeference(page: Any) -> bool:
    """Return whether a page has tags of a GeoTIFF."""
    return any(page.tags.get(number) is not None for number in _GEO_TAGS)


def _palette(page: Any) -> npt.NDArray[np.uint8] | None:
    colours = page.colormap
    if colours is None:
        return None
    # The entries have 16 bits. Some programs write 8 bits all the same, as libtiff notes.
    entries = colours if colours.max() < 256 else colours >> 8
    return np.ascontiguousarray(entries.T.astype(np.uint8))


def _straight(samples: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return colours without the factor alpha, the last sample."""
    alpha = samples[..., -1:].astype(np.float64)
    top = np.iinfo(samples.dtype).max if samples.dtype.kind in "iu" else 1.0
    scale = np.divide(top, alpha, out=np.zeros_like(alpha), where=alpha > 0)
    colours = np.minimum(samples[..., :-1] * scale, top)
    colours = np.rint(colours) if samples.dtype.kind in "iu" else colours
    return np.concatenate([colours.astype(samples.dtype), samples[..., -1:]], axis=-1)
