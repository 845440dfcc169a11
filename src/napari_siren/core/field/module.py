"""`FieldModule`: a field as a PyTorch module, differentiable in coordinates and in parameters."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from itertools import product

import torch
from torch import Tensor, nn

from napari_siren.core.field.outliers import Outliers
from napari_siren.core.field.partition import PartitionOfUnity
from napari_siren.core.field.representation import Representation
from napari_siren.core.field.spline import SampleSpline, interpolate
from napari_siren.core.field.tiling import smoothstep
from napari_siren.core.image.samples import ImageLayout
from napari_siren.core.network.siren import Siren
from napari_siren.errors import InputError

# Number of points that share one copy of a tile's parameters.
_BLOCK = 32


class FieldModule(nn.Module):
    """A field as a PyTorch module: the function of `Field.__call__`, by plain PyTorch operations.

    `Field.module` returns it. Its parameters are a copy of the networks' parameters, or of the coefficients of the
    spline. Its buffers are the geometry of the tiles, the outliers, and the value range of the image. It can be
    differentiated twice by autograd, in the coordinates and in the parameters. Beyond the second derivative, the
    weights of the tiles are not continuous; nor is the cubic spline.

    Parameters
    ----------
    representation
        The function in normalised values.
    layout
        Value range of the image.
    sample_spacing
        Physical distance between the fitted samples along each axis.
    dtype
        Dtype of parameters and buffers: float32 or float64.
    outliers
        Outliers to add to the function, or None.

    Examples
    --------
    >>> import numpy as np, torch, napari_siren as ns
    >>> image = np.hypot(*np.mgrid[-8:8, -8:8]).astype(np.float32)
    >>> module = ns.fit(image, max_steps=20).field.module()
    >>> points = torch.tensor([[8.0, 8.0], [2.5, 3.25]], requires_grad=True)
    >>> values = module(points)
    >>> (gradient,) = torch.autograd.grad(values.sum(), points)
    >>> values.shape, gradient.shape
    (torch.Size([2, 1]), torch.Size([2, 2]))
    """

    spacing: Tensor
    offset: Tensor
    scale: Tensor

    def __init__(
        self,
        representation: Representation,
        layout: ImageLayout,
        sample_spacing: Sequence[float],
        dtype: torch.dtype,
        outliers: Outliers | None = None,
    ) -> None:
        super().__init__()
        if dtype not in (torch.float32, torch.float64):
            raise InputError(f"dtype={dtype} is not supported by the module of a field. Use torch.float32 or float64.")
        function = representation.to(dtype=dtype)
        if isinstance(function, PartitionOfUnity):
            self.function: nn.Module = _Tiles(function)
        else:
            assert isinstance(function, SampleSpline)
            self.function = _Spline(function)
        self.outliers = None if outliers is None else _Outliers(outliers).to(function.device, dtype)
        for name, numbers in (("spacing", sample_spacing), ("offset", layout.offset), ("scale", layout.scale)):
            self.register_buffer(name, torch.tensor(numbers, dtype=dtype, device=function.device))

    def forward(self, coordinates: Tensor) -> Tensor:
        """Evaluate the field.

        Parameters
        ----------
        coordinates
            Physical positions, (..., dimensions), in the order of the image's spatial axes, with the dtype and on the
            device of the module. They are not checked for NaN: the value there is NaN.

        Returns
        -------
        Tensor
            Values in the image's units, (..., channels). There is one channel if the image has no channel axis.

        Raises
        ------
        InputError
            The shape, dtype or device of the coordinates does not match, or the module is in half precision.
        """
        self._check(coordinates)
        points = (coordinates / self.spacing).reshape(-1, len(self.spacing))
        normalised = self.function(points)
        if self.outliers is not None:
            normalised = normalised + self.outliers(points)
        values = normalised * self.scale + self.offset
        result: Tensor = values.reshape(*coordinates.shape[:-1], len(self.scale))
        return result

    def _check(self, coordinates: Tensor) -> None:
        own, dimensions = self.scale, len(self.spacing)
        if own.dtype not in (torch.float32, torch.float64):
            raise InputError(f"the module of a field does not work in {own.dtype}. Use module.float() or .double().")
        if not isinstance(coordinates, Tensor) or coordinates.ndim == 0 or coordinates.shape[-1] != dimensions:
            given = tuple(coordinates.shape) if isinstance(coordinates, Tensor) else type(coordinates).__name__
            raise InputError(f"coordinates is {given}. Pass a tensor of shape (..., {dimensions}).")
        if (coordinates.dtype, coordinates.device) != (own.dtype, own.device):
            raise InputError(
                f"coordinates is {coordinates.dtype} on {coordinates.device}, and the module is {own.dtype} on "
                f"{own.device}. Use module.to(coordinates)."
            )


class _Tiles(nn.Module):
    """The weighted sum of the tiles' networks, (points, dimensions) -> (points, channels), in samples.

    At most two tiles along an axis have a weight at a point. Only these 2^dimensions networks are evaluated. All shapes
    depend on the number of points alone, for `torch.export` and `torch.vmap`.

    Parameters
    ----------
    blend
        The networks and their weights.
    """

    theta: nn.Parameter
    middles: Tensor
    choices: Tensor
    counts: Tensor
    strides: Tensor
    low: Tensor
    high: Tensor
    fade: Tensor
    centres: Tensor
    unit: Tensor
    offset: Tensor
    scale: Tensor

    def __init__(self, blend: PartitionOfUnity) -> None:
        super().__init__()
        self.spec, self.omega_0 = blend.siren.spec, blend.siren.omega_0
        self.theta = nn.Parameter(blend.siren.theta.detach().clone())
        for name, tensor in {**_geometry(blend), "offset": blend.offset, "scale": blend.scale}.items():
            like = self.theta if tensor.is_floating_point() else self.theta.device
            self.register_buffer(name, tensor.detach().clone().to(like))

    def forward(self, points: Tensor) -> Tensor:
        """Evaluate the function at points."""
        # A point between the middles of two cells is covered by no other tiles.
        upper = (points[:, :, None] >= self.middles).sum(dim=2)
        index = upper[:, None] + self.choices
        valid = ((index >= 0) & (index < self.counts)).all(dim=2)
        tiles = (index.clamp(min=0).minimum(self.counts - 1) * self.strides).sum(dim=2)
        x = points[:, None]
        rise = smoothstep((x - self.low[tiles]) / self.fade + 0.5)[0]
        fall = smoothstep((self.high[tiles] - x) / self.fade + 0.5)[0]
        # `prod` has a slow second derivative if a factor is zero.
        weights = reduce(torch.mul, (rise * fall).unbind(dim=2)) * valid
        local = (x - self.centres[tiles]) * self.unit
        outputs = self._networks(tiles.flatten(), local.flatten(0, 1)).reshape(*tiles.shape, self.spec.outputs)
        values: Tensor = (weights[:, :, None] * (self.offset[tiles] + self.scale[tiles] * outputs)).sum(dim=1)
        return values

    def _networks(self, tiles: Tensor, x: Tensor) -> Tensor:
        """Evaluate one network for each row of x: (rows,) and (rows, dimensions) -> (rows, channels)."""
        count = len(self.theta)
        if count == 1:
            return self._forward(self.theta, x.mT[None])[0].mT
        slots = _slots(tiles, count)
        # Each tile has at most one block that is not full. `len` would fix the number of rows in an export.
        blocks = tiles.shape[0] // _BLOCK + torch.sym_min(tiles.shape[0], count)  # type: ignore[no-untyped-call]
        owners = tiles.new_zeros(blocks).index_put((slots // _BLOCK,), tiles)
        padded = x.new_zeros(blocks * _BLOCK, x.shape[1]).index_put((slots,), x)
        parameters = self.theta.index_select(0, owners)
        values = self._forward(parameters, padded.reshape(blocks, _BLOCK, x.shape[1]).mT)
        return values.mT.flatten(0, 1).index_select(0, slots)

    def _forward(self, theta: Tensor, x: Tensor) -> Tensor:
        return Siren(self.spec, theta, self.omega_0).forward(x)


class _Spline(nn.Module):
    """The cubic spline, (points, dimensions) -> (points, channels), in samples.

    Parameters
    ----------
    spline
        The spline.
    """

    def __init__(self, spline: SampleSpline) -> None:
        super().__init__()
        self.coefficients = nn.Parameter(spline.coefficients.detach().to(spline.dtype, copy=True))

    def forward(self, points: Tensor) -> Tensor:
        """Evaluate the spline at points."""
        return interpolate(self.coefficients, points, (0,) * points.shape[1], points.dtype)


class _Outliers(nn.Module):
    """The outliers, (points, dimensions) -> (points, channels), in samples.

    Parameters
    ----------
    outliers
        The outliers.
    """

    numbers: Tensor
    amounts: Tensor

    def __init__(self, outliers: Outliers) -> None:
        super().__init__()
        self.shape = outliers.shape
        for name in ("numbers", "amounts"):
            self.register_buffer(name, getattr(outliers, name).clone())

    def forward(self, points: Tensor) -> Tensor:
        """Evaluate the outliers at points."""
        return Outliers(self.shape, self.numbers, self.amounts).at_points(points, "value")[0]


def _geometry(blend: PartitionOfUnity) -> dict[str, Tensor]:
    """Return the tensors that describe the tiles, with one row for each tile, or for each axis."""
    like = torch.zeros((), dtype=torch.float64)
    axes, indices = blend.tiling.axes, torch.from_numpy(blend.tiling.indices)
    borders = [axis.faded_borders(like) for axis in axes]
    # An axis with one tile has no choice of tiles.
    most = max(axis.count for axis in axes)
    middles = torch.full((len(axes), most), torch.inf, dtype=torch.float64)
    for row, axis in zip(middles, axes, strict=True):
        if axis.count > 1:
            ends = torch.tensor(axis.borders, dtype=torch.float64)
            row[: axis.count] = (ends[1:] + ends[:-1]) / 2
    counts = torch.tensor(blend.tiling.counts)
    return {
        "middles": middles,
        "choices": torch.tensor(list(product(*((-1, 0) if axis.count > 1 else (0,) for axis in axes)))),
        "counts": counts,
        "strides": counts.flipud().cumprod(0).flipud() // counts,
        "low": torch.stack([low[i] for (low, _), i in zip(borders, indices.T, strict=True)], dim=1),
        "high": torch.stack([high[i] for (_, high), i in zip(borders, indices.T, strict=True)], dim=1),
        "fade": torch.tensor([2 * axis.overlap for axis in axes], dtype=torch.float64),
        "centres": torch.from_numpy(blend.tiling.centres),
        "unit": torch.tensor(blend.coordinate_scale, dtype=torch.float64),
    }


def _slots(tiles: Tensor, count: int) -> Tensor:
    """Return a slot for each row, so that a block of `_BLOCK` slots has rows of one tile only."""
    ordered, order = tiles.sort()
    sizes = tiles.new_zeros(count).index_put((tiles,), torch.ones_like(tiles), accumulate=True)
    first_row = sizes.cumsum(0) - sizes
    blocks = (sizes + _BLOCK - 1) // _BLOCK
    first_slot = (blocks.cumsum(0) - blocks) * _BLOCK
    slots = (first_slot - first_row)[ordered] + torch.arange(tiles.shape[0], device=tiles.device)
    return torch.empty_like(slots).index_put((order,), slots)
