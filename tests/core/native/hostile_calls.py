"""Calls of every entry of the compiled library through Python, with right and with wrong shapes.

`test_address_sanitizer.py` runs it in a process with AddressSanitizer, which ends the process at the first access out
of bounds. The argument is the path of the library.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from napari_siren.core.engines.native import GridAxis, LowPrecisionEngine, NativeEngine
from napari_siren.core.native import decoder
from napari_siren.core.native.library import Kernel
from napari_siren.core.network.losses import SquaredLoss
from napari_siren.core.network.siren import NetworkSpec, Siren

TILES, SAMPLES = 5, 300
SPEC = NetworkSpec(2, 3, 3, 13)
# Sizes that differ from the right ones, and dtypes and strides that are not supported.
WRONG: tuple[Callable[[torch.Tensor], torch.Tensor], ...] = (
    lambda t: t[:-1],
    lambda t: t[..., :-1].contiguous(),
    lambda t: t[..., :0].contiguous(),
    lambda t: t.double(),
    lambda t: t.flatten(),
    lambda t: torch.cat([t, t]),
    lambda t: t[None].expand(2, *t.shape),
)


# The calls that were refused.
REFUSED: list[str] = []


def refused(call: Callable[[], object], what: str) -> None:
    try:
        call()
    except (ValueError, TypeError, IndexError, RuntimeError):
        REFUSED.append(what)
        return
    raise AssertionError(f"{what} was accepted")


def siren_of(spec: NetworkSpec = SPEC) -> Siren:
    return Siren(spec, torch.rand(TILES, spec.parameters), 1.0)


def steps_of_networks(engine: NativeEngine) -> None:
    """Call forward, gradient and losses."""
    siren, x = siren_of(), torch.rand(TILES, 2, SAMPLES)
    loss = SquaredLoss(torch.rand(TILES, 3, SAMPLES), torch.ones(TILES, SAMPLES))
    out = torch.zeros_like(siren.theta)
    engine.forward(siren, x)
    engine.forward(siren, x[:1])
    engine.gradient(siren, x, loss, out)
    engine.losses(siren, x[:1], loss)
    for spec in (replace(SPEC, inputs=3), replace(SPEC, inputs=1), replace(SPEC, outputs=4), replace(SPEC, inputs=0)):
        refused(lambda spec=spec: engine.forward(replace(siren, spec=spec), x), f"forward of {spec}")
    for width in (14, 2**16, 2**31):
        spec = replace(SPEC, hidden_features=width)
        refused(lambda spec=spec: engine.forward(replace(siren, spec=spec), x), f"forward of {spec}")
    refused(lambda: engine.forward(siren, torch.rand(2, 2, SAMPLES)), "coordinates of two tiles")
    refused(lambda: engine.forward(siren, torch.rand(TILES, 3, SAMPLES)), "coordinates of three axes")
    for wrong in WRONG[:3] + WRONG[5:]:
        refused(lambda wrong=wrong: engine.gradient(siren, x, loss, wrong(out)), "gradient")
        bad = SimpleNamespace(target=wrong(loss.target), weight=loss.weight, factor=loss.factor)
        refused(lambda bad=bad: engine._gradient(siren, x, bad.target, bad.weight, bad.factor, out, out[:, 0]), "loss")
        target, weight = loss.target, wrong(loss.weight)
        refused(lambda: engine.losses(siren, x, SquaredLoss(target, weight)), "weight")  # noqa: B023
        refused(lambda wrong=wrong: engine.losses(siren, x, SquaredLoss(wrong(target), loss.weight)), "target")  # noqa: B023
        refused(lambda wrong=wrong: engine.forward(replace(siren, theta=wrong(siren.theta)), x), "theta")


def blending(engine: NativeEngine) -> None:
    siren, out = siren_of(), torch.zeros(3, 12, 20)
    rows = GridAxis(np.array([0, 6]), np.array([6, 6]), torch.rand(2, 6), torch.rand(2, 6))
    columns = GridAxis(np.array([0, 8, 16]), np.array([8, 8, 4]), torch.rand(3, 8), torch.rand(3, 8))
    cells = np.array([[0, 0], [0, 1], [0, 2], [1, 0], [1, 1]], dtype=np.int32)
    engine.blend(siren, cells, [rows, columns], out)
    changes: dict[str, Any] = {
        "starts": [np.array([0, 7]), np.array([-1, 6]), np.array([0]), np.array([0, 2**62]), np.array([0.0, 6.0])],
        "counts": [np.array([6, 7]), np.array([7, 6]), np.array([-1, 6]), np.array([6]), np.array([6, 2**62])],
        "positions": [torch.rand(2, 5), torch.rand(1, 6), torch.rand(2, 6).double()],
        "windows": [torch.rand(2, 5), torch.rand(3, 6), torch.rand(6, 2).T],
    }
    for name, values in changes.items():
        for value in values:
            axis = replace(rows, **{name: value})
            refused(lambda axis=axis: engine.blend(siren, cells, [axis, columns], out), f"{name} {value}")
    for bad in (cells + 1, cells - 1, cells[:3], cells[:, :1], cells.astype(np.int64)):
        refused(lambda bad=bad: engine.blend(siren, bad, [rows, columns], out), f"cells {bad}")
    for bad in (out[:2], out[..., :-1], out[:, :5].contiguous(), out.double(), out[0]):
        refused(lambda bad=bad: engine.blend(siren, cells, [rows, columns], bad), f"output {bad.shape}")
    refused(lambda: engine.blend(siren, cells, [rows], out), "one axis")
    refused(lambda: engine.blend(siren, cells, [rows, columns, columns], out), "three axes")


def updates(engine: NativeEngine) -> None:
    engine.orthogonalise(torch.rand(4, 2, 13, 13))
    refused(lambda: engine.orthogonalise(torch.rand(4, 13, 12)), "matrices that are not square")
    refused(lambda: engine.orthogonalise(torch.rand(4, 13, 13).double()), "float64")

    def optimizer() -> Any:
        from napari_siren.core.network.optimizer import Optimizer
        from napari_siren.core.settings.config import FitConfig

        return Optimizer(FitConfig(), SPEC, torch.rand(TILES, SPEC.parameters))

    right = {"gradient": torch.rand(TILES, SPEC.parameters), "rate": torch.ones(TILES)}
    right["average"] = right["gradient"].clone()
    engine.update(optimizer(), **right)
    for wrong in WRONG:
        for name in right:
            if name == "rate" and wrong in (WRONG[4],):
                continue  # it is flat
            refused(
                lambda name=name, wrong=wrong: engine.update(optimizer(), **right | {name: wrong(right[name])}), name
            )
        for name in ("theta", "mean", "square", "count", "momentum"):
            other = optimizer()
            setattr(other, name, wrong(getattr(other, name)))
            refused(lambda other=other: engine.update(other, **right), f"optimizer.{name}")
    other = optimizer()
    other.adam_columns += 1
    refused(lambda: engine.update(other, **right), "columns")


def decoding(library: ctypes.CDLL) -> None:
    decoder.kernel = lambda: Kernel(library, "")  # type: ignore[assignment, attr-defined]
    taps = [torch.arange(n).repeat_interleave(2)[None].clamp_max(n - 1) for n in (3, 4)]
    axes = [(t, torch.ones(t.shape), torch.zeros(t.shape[1], 32)) for t in taps]
    right: dict[str, Any] = {
        "values": torch.zeros(6, 8),
        "first": torch.zeros(3, 4, 32),
        "rows": axes[0],
        "columns": axes[1],
        "layers": (torch.zeros(1, 32, 32), torch.zeros(1, 32)),
        "head": (torch.zeros(32), 2.0, 0.5),
    }
    decoder.decode(**right)
    for wrong in WRONG[:4] + WRONG[5:]:
        for name, value in right.items():
            if name == "first" and wrong is WRONG[5]:
                continue  # more pixels than needed
            if isinstance(value, torch.Tensor):
                changed = wrong(value)
                refused(lambda n=name, v=changed: decoder.decode(**right | {n: v}), name)
                continue
            for i, part in enumerate(value):
                if isinstance(part, torch.Tensor) and not (wrong is WRONG[1] and part.ndim == 0):
                    parts = (*value[:i], wrong(part), *value[i + 1 :])
                    refused(lambda n=name, v=parts: decoder.decode(**right | {n: v}), f"{name}[{i}]")
    for bad in (axes[0][0] + 1, axes[0][0] - 1):
        refused(lambda bad=bad: decoder.decode(**right | {"rows": (bad, *axes[0][1:])}), "pixels")


def main(path: str) -> None:
    library = ctypes.CDLL(path)
    native = NativeEngine(library, 1)
    low = LowPrecisionEngine.from_engine(native, SPEC)
    for engine in (native, low):
        if engine is not None:
            steps_of_networks(engine)
            blending(engine)
            updates(engine)
    decoding(library)
    print(f"all calls done: {len(REFUSED)} refused")


if __name__ == "__main__":
    main(sys.argv[1])
