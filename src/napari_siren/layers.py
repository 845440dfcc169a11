"""napari layer <-> `LayerSpec` <-> LayerDataTuple: axes, transforms, units, display. Pure: no napari, no Qt.

A tuple given to napari inherits nothing from the layer that it was made from, so that it says everything. Two
units of length: *data pixels*, in which napari puts the centre of sample k at k, so that an axis of n pixels
spans [-0.5, n - 0.5]; and *world* units, those of `units`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from napari_siren.core.image import check_axes
from napari_siren.errors import InputError
from napari_siren.layer_reading import (
    Placement,
    attribute,
    check_is_image,
    is_rgb,
    layer_name,
    plain_values,
    read_axes,
    read_display,
    to_array,
)

if TYPE_CHECKING:
    from napari_siren.core.result import FitResult

Role = Literal["reconstruction", "upscaled", "error"]
LayerData = tuple[npt.NDArray[np.generic], dict[str, Any], str]
"""What napari calls a LayerDataTuple: the data, the layer's keyword arguments, and its type, "image"."""

METADATA_KEY = "napari_siren"

# The convention of microscopy for two signs, and one of the diverging colormaps in napari's own list.
_ERROR_COLORMAP = "PiYG"
_ERROR_PERCENTILE = 99.9


@dataclass(frozen=True, eq=False)
class LayerSpec:
    """What of an image layer matters to a fit, and to the layers made from it.

    Parameters
    ----------
    name
        The layer's name.
    data
        Of a multiscale layer, its highest level.
    axes
        One letter for each axis of `data`, of Z, Y, X and C.
    rgb
        Whether the last axis is colours, which napari does not count among a layer's axes.
    placement
        Where the pixels are in the world.
    display
        Keyword arguments of a napari image layer, plain values: colormap, contrast_limits and others.

    Examples
    --------
    >>> import numpy as np
    >>> from types import SimpleNamespace
    >>> layer = SimpleNamespace(data=np.zeros((8, 6)), name="cells", scale=(0.5, 0.5), units=("um", "um"))
    >>> spec = LayerSpec.of(layer)
    >>> spec.axes, spec.spacing
    ('YX', (0.5, 0.5))
    >>> data, meta, kind = spec.like(np.zeros((16, 12)), "upscaled", "x2")
    >>> meta["name"], meta["scale"], meta["translate"], kind
    ('cells [x2]', [0.25, 0.25], [-0.125, -0.125], 'image')
    """

    name: str
    data: npt.NDArray[np.generic]
    axes: str
    rgb: bool
    placement: Placement
    display: Mapping[str, Any]

    @classmethod
    def of(cls, layer: Any, axes: str | None = None) -> LayerSpec:
        """Read a layer.

        Parameters
        ----------
        layer
            As `fit_layer` takes it.
        axes
            One letter for each axis of the data; None asks the layer's `rgb` and `axis_labels`: one called
            "c" or "channel" is channels, the others are space, by labels z, y and x or else in this order.

        Raises
        ------
        InputError
            Another type of layer, too many axes, or a transform that makes no sense.
        """
        check_is_image(layer)
        lazy = layer.data[0] if attribute(layer, "multiscale", False) else layer.data
        shape = tuple(lazy.shape) if hasattr(lazy, "shape") else to_array(lazy, layer).shape
        given = None if axes is None else check_axes(axes, shape)
        rgb = is_rgb(layer, shape, given)
        placement = Placement.of(layer, len(shape) - rgb)
        names = given or read_axes(layer, placement.axis_labels, shape, rgb)
        # Only now: before the checks above, a lazy series of any size would have been read.
        return cls(layer_name(layer), to_array(lazy, layer), names, rgb, placement, read_display(layer, rgb))

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of pixels along each of the layer's axes, as napari counts them: without the colours."""
        return self.data.shape[: self.data.ndim - self.rgb]

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """Number of pixels along each spatial axis."""
        return tuple(n for n, axis in zip(self.data.shape, self.axes, strict=True) if axis != "C")

    @property
    def spacing(self) -> tuple[float, ...]:
        """Distance between pixel centres along each spatial axis: the layer's scale without its sign."""
        pairs = zip(self.axes, self.placement.scale, strict=False)
        return tuple(abs(float(scale)) for axis, scale in pairs if axis != "C")

    def scaled_shape(self, scale: float | Sequence[float]) -> tuple[int, ...]:
        """Give the number of pixels along each spatial axis after scaling, at least 1 each.

        Parameters
        ----------
        scale
            Output pixels per pixel: a number, or one for each spatial axis.

        Raises
        ------
        InputError
            The scale is not positive and finite, or of a wrong length.
        """
        from napari_siren.core.geometry import RenderGrid

        return RenderGrid.of(self.spatial_shape, self.spacing, scale=scale).shape

    def like(
        self,
        data: npt.NDArray[np.generic],
        role: Role,
        label: str,
        receipt: Mapping[str, Any] | None = None,
        **display: Any,
    ) -> LayerData:
        """Make a layer over the same piece of the world from other data.

        Parameters
        ----------
        data
            Of this layer's axes, with any number of pixels along each; or, if RGB, without the colours.
        role
            What it is to the original, for the metadata.
        label
            Goes behind the original's name, in brackets.
        receipt
            Where it comes from: plain values, for ``metadata["napari_siren"]``.
        **display
            Keyword arguments of a napari image layer, in place of the original's.

        Returns
        -------
        LayerData
            (data, keyword arguments, "image"); the original's own metadata is not passed on, since much of it
            would be untrue of other pixels.

        Raises
        ------
        InputError
            `data` has another number of axes, or an axis without pixels.
        """
        sizes = data.shape[: len(self.shape)]
        rgb = self.rgb and data.ndim == self.data.ndim
        if data.ndim != len(self.shape) + rgb or 0 in sizes:
            raise InputError(f"data of shape {data.shape} cannot lie over a layer with axes {self.axes}.")
        factors = [new / old for new, old in zip(sizes, self.shape, strict=True)]
        in_space = [f for f, axis in zip(factors, self.axes, strict=False) if axis != "C"]
        meta = {
            "name": f"{self.name} [{label}]",
            "rgb": rgb,
            "metadata": {METADATA_KEY: {**(receipt or {}), "role": role, "scale": in_space}},
            **self.placement.resized(factors).as_meta(),
            **self.display,
            **display,
        }
        return data, meta, "image"

    def layers_of(self, result: FitResult, scale: float | Sequence[float] = 2) -> tuple[LayerData, ...]:
        """Make the three layers of a fit to this layer's data.

        Parameters
        ----------
        result
            Of a fit with this layer's data and axes.
        scale
            Of the upscaled layer: output pixels per pixel, a number or one for each spatial axis. Where that
            gives no whole number of pixels, the nearest one is laid over the image from edge to edge.

        Returns
        -------
        tuple of LayerData
            Reconstruction and upscaled, of the image's dtype and contrast limits; and the error
            (reconstruction - image), float32, in contrast limits symmetric about 0 that hold 99.9 % of it.
            The error of an RGB image is the mean over its colours, alpha left out.

        Raises
        ------
        InputError
            A bad scale, or a result that was loaded from a file and so has no image.
        """
        receipt = _receipt(result)
        upscaled = result.render(shape=self.scaled_shape(scale))
        error = result.error[..., :3].mean(axis=-1, dtype=np.float32) if self.rgb else result.error
        return (
            self.like(result.reconstruction, "reconstruction", "reconstruction", receipt),
            self.like(upscaled, "upscaled", _scale_label(scale), receipt),
            self.like(error, "error", "error", receipt, **_error_display(error)),
        )


@dataclass(frozen=True, eq=False)
class LayerFit:
    """What `fit_layer` gives back.

    Parameters
    ----------
    result
        The fit: field, metrics, history, render and save.
    layer_data
        Three LayerDataTuples: reconstruction, upscaled, error. ``viewer.add_image(data, **meta)`` adds one.
    layers
        The layers added, where a viewer was given; else empty.
    """

    result: FitResult
    layer_data: tuple[LayerData, ...] = field(repr=False)
    layers: tuple[Any, ...] = ()


def fit_layer(
    layer: Any,
    scale: float | Sequence[float] = 2,
    preset: str | None = None,
    viewer: Any = None,
    **options: Any,
) -> LayerFit:
    """Fit a field to a napari image layer, and make three layers that lie exactly over it.

    Parameters
    ----------
    layer
        A `napari.layers.Image`, or any object with such attributes: data, and, where they are not napari's
        defaults, name, rgb, multiscale, scale, translate, rotate (a matrix), shear, affine, units,
        axis_labels, colormap, contrast_limits, blending, opacity, gamma and so on. One to three axes in
        space, and channels: the colours of an RGB layer, or an axis labelled "c" or "channel". Dask and zarr
        arrays are read whole.
    scale
        Of the upscaled layer: output pixels per pixel, a number or one for each spatial axis.
    preset
        "faithful", "upscale", "fast" or "paper"; None is "faithful".
    viewer
        A napari viewer, or a `ViewerModel`, to add the layers to; if given, call this in the main thread.
    **options
        Any other argument of `fit`. The spacing is the layer's scale, if not given; `axes` overrides what the
        layer tells of its axes.

    Returns
    -------
    LayerFit
        The result of the fit, the layers as LayerDataTuples, and those added to the viewer.

    Raises
    ------
    InputError
        Not an image layer, more than three axes in space, a bad scale, or an image that cannot be fitted.
    SirenError
        As `fit` does.

    Examples
    --------
    >>> import numpy as np, napari_siren as ns
    >>> from types import SimpleNamespace
    >>> layer = SimpleNamespace(data=np.eye(24, dtype=np.float32), name="line", scale=(0.1, 0.1))
    >>> fitted = ns.fit_layer(layer, scale=4, max_steps=20)
    >>> for data, meta, _ in fitted.layer_data:
    ...     print(meta["name"], data.shape, meta["scale"])
    line [reconstruction] (24, 24) [0.1, 0.1]
    line [x4] (96, 96) [0.025, 0.025]
    line [error] (24, 24) [0.1, 0.1]
    """
    from napari_siren.core.fit import fit

    spec = LayerSpec.of(layer, options.pop("axes", None))
    # What would fail at the end should not come to light only after the fit.
    spec.scaled_shape(scale)
    _check_viewer(viewer, spec)
    result = fit(spec.data, **{"axes": spec.axes, "spacing": spec.spacing, "preset": preset or "faithful", **options})
    layer_data = spec.layers_of(result, scale)
    added = () if viewer is None else tuple(viewer.add_image(data, **meta) for data, meta, _ in layer_data)
    return LayerFit(result, layer_data, added)


def _check_viewer(viewer: Any, spec: LayerSpec) -> None:
    if viewer is None:
        return
    if not hasattr(viewer, "add_image"):
        raise InputError(f"viewer should be a napari viewer, or None, not a {type(viewer).__name__}.")
    if len(spec.shape) < 2:
        raise InputError("napari shows images of two axes or more, not of one; leave viewer out.")


# ---- making a layer ----------------------------------------------------------------------------------


def _error_display(error: npt.NDArray[np.float32]) -> dict[str, Any]:
    magnitude = np.abs(error)
    limit = float(np.percentile(magnitude, _ERROR_PERCENTILE)) or float(magnitude.max()) or 1.0
    return {
        "colormap": _ERROR_COLORMAP,
        "contrast_limits": [-limit, limit],
        "blending": "translucent",
        "opacity": 1.0,
        "gamma": 1.0,
        "iso_threshold": None,
    }


def _scale_label(scale: float | Sequence[float]) -> str:
    numbers = [f"{value:g}" for value in np.atleast_1d(np.asarray(scale, dtype=np.float64))]
    return "x" + (numbers[0] if len(set(numbers)) == 1 else ",".join(numbers))


def _receipt(result: FitResult) -> dict[str, Any]:
    """Give what tells where a layer comes from, in values that JSON knows."""
    history = result.history
    receipt: dict[str, Any] = plain_values(
        {
            "config": result.config.model_dump(mode="json"),
            "metrics": result.metrics.as_dict(),
            "history": {
                "stopped": history.stopped,
                "seconds": history.seconds[-1] if history.seconds else 0.0,
                "steps": history.step[-1] if history.step else 0,
            },
            **result.receipt,
        }
    )
    return receipt
