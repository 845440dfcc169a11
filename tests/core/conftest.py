"""Small pictures and fields, made without a fit, for the tests of the core."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import settings
from torch import Tensor, nn

from napari_siren.core.field import partition as blend
from napari_siren.core.field import render_blocks
from napari_siren.core.field.field import Field
from napari_siren.core.field.partition import PartitionOfUnity
from napari_siren.core.field.tiling import Tiling
from napari_siren.core.image.axes import Axes
from napari_siren.core.image.samples import ImageLayout
from napari_siren.core.network.siren import NetworkSpec, Siren
from napari_siren.core.progress import Progress
from napari_siren.core.settings.config import FitConfig
from napari_siren.core.steps import FitSteps

settings.register_profile("core", settings.get_profile("patient"), max_examples=40, derandomize=True)
settings.load_profile("core")
# The tensors of these tests are so small that a second thread only costs.
torch.set_num_threads(1)


# The networks' own units of length per pixel, as unlike each other as the axes of a stack may be.
UNITS = (1.3, 0.7, 0.9)


def _random_field(
    shape: Sequence[int],
    channels: int = 1,
    tile: float = 6,
    overlap: float = 1.5,
    spacing: Sequence[float] | None = None,
    dtype: torch.dtype = torch.float64,
    image_dtype: str = "float64",
    samples_per_pixel: int = 1,
    channel_axis: int | None = None,
    seed: int = 0,
) -> Field:
    """A field of random networks, each tile with an offset and scale of its own."""
    dimensions = len(shape)
    generator = torch.Generator().manual_seed(seed)
    tiling = Tiling.cut(shape, tile, overlap)
    config = FitConfig(standardise=False, band=0.7, weight_scale=1.0)
    siren = Siren.initialise(NetworkSpec(dimensions, channels, 2, 7), tiling.count, config, seed)
    axes = Axes("ZYX"[-dimensions:])
    if channels > 1:
        place = dimensions if channel_axis is None else channel_axis
        axes = Axes(f"{axes[:place]}C{axes[place:]}")
    layout = ImageLayout(
        axes,
        axes.with_channel(shape, channels),
        image_dtype,
        tuple(spacing or (1.0,) * dimensions),
        tuple(10.0 * c + 3 for c in range(channels)),
        tuple(2.0 + c for c in range(channels)),
    )
    offset = torch.randn(tiling.count, channels, generator=generator)
    scale = torch.rand(tiling.count, 1, generator=generator) + 0.5
    networks = PartitionOfUnity(siren, tiling, offset, scale, UNITS[:dimensions])
    return Field(networks, layout, samples_per_pixel).to(dtype=dtype)


@pytest.fixture
def random_field() -> Callable[..., Field]:
    """Makes a field of random networks."""
    return _random_field


class PaperNetwork(nn.Module):
    """A SIREN as one would write it down, with the parameters of one tile; (samples, inputs) -> (samples, outputs)."""

    def __init__(self, siren: Siren, tile: int = 0) -> None:
        super().__init__()
        shape = siren.spec
        self.weights = nn.ParameterList(w[tile].clone() for w in shape.weights(siren.theta))
        self.biases = nn.ParameterList(b[tile, :, 0].clone() for b in shape.biases(siren.theta))
        self.omega_0 = siren.omega_0

    def forward(self, x: Tensor) -> Tensor:
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = torch.sin(self.omega_0 * nn.functional.linear(x, weight, bias))
        return nn.functional.linear(x, self.weights[-1], self.biases[-1])


@pytest.fixture
def paper_network() -> type[PaperNetwork]:
    """The reference implementation of a network."""
    return PaperNetwork


@pytest.fixture(scope="session")
def smooth() -> npt.NDArray[np.float32]:
    """A smooth picture of 24 x 20 pixels, values from 20 to 180."""
    y, x = np.mgrid[:24, :20]
    return (100 + 80 * np.sin(y / 5) * np.cos(x / 6)).astype(np.float32)


@pytest.fixture(scope="session")
def photo(smooth: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """The same as uint8, with a little texture."""
    texture = np.random.default_rng(7).normal(0, 5, smooth.shape)
    return np.clip(smooth + texture, 0, 255).astype(np.uint8)


class Clock:
    """A clock that goes on only where it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of fits: each step of one takes a second, and nothing else takes any time."""
    clock, original = Clock(), FitSteps.send

    def send(steps: FitSteps, value: str | None) -> Progress:
        clock.now += 1
        return original(steps, value)

    monkeypatch.setattr("napari_siren.core.clock.time", clock)
    monkeypatch.setattr(FitSteps, "send", send)
    return clock


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From its call on, fields are evaluated in very small blocks."""

    def shrink() -> None:
        monkeypatch.setattr(render_blocks, "_BLOCK_VALUES", 100)
        monkeypatch.setattr(blend, "_BLOCK_ELEMENTS", 300)

    return shrink
