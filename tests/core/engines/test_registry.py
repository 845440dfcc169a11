"""The registry of engines: their order, and the choice among them."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from napari_siren.core.engines import choose_engine, low_precision_engine
from napari_siren.core.engines.base import no_check
from napari_siren.core.engines.registry import ENGINES
from napari_siren.core.network.siren import NetworkSpec
from napari_siren.core.settings.config import FitConfig
from napari_siren.errors import ConfigError

SPEC = NetworkSpec(2, 3, 3, 32)
CPU = torch.device("cpu")


def test_every_engine_can_be_requested() -> None:
    names = [kind.name for kind in ENGINES]
    assert set(get_args(FitConfig.model_fields["engine"].annotation)) == {"auto", *names}
    # PyTorch comes last: it does everything.
    assert names[-1] == "torch"


def test_an_unknown_engine() -> None:
    with pytest.raises(ConfigError, match="Choose auto, native, triton, torch"):
        choose_engine("fortran", CPU, SPEC, 4)


def test_engines_call_the_check() -> None:
    calls: list[int] = []
    engine = choose_engine("torch", CPU, SPEC, 4, check=lambda: calls.append(1))
    assert choose_engine("torch", CPU, SPEC, 4).check is no_check
    engine.check()
    assert calls == [1]
    wide = NetworkSpec(2, 3, 3, 256)
    low_precision = low_precision_engine(engine, wide)
    assert low_precision is None or low_precision.check is engine.check
