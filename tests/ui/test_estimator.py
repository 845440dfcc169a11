"""Tests of the estimates: in the background, and always of the present settings."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import QCoreApplication, QThreadPool
from waiting import LIMIT

from napari_siren.core.cost import estimate as estimate_module
from napari_siren.core.cost.base import Estimate
from napari_siren.core.settings.config import FitConfig
from napari_siren.errors import DeviceError, InputError
from napari_siren.layers.spec import LayerSpec
from napari_siren.ui import estimator as estimator_module
from napari_siren.ui.estimator import Estimator
from napari_siren.ui.tasks.fit import FitRequest

# Text of an estimate before the name of the device.
SIZES = "16 × 12 × 5 → 32 × 24 × 10 pixels. "
SPEC = LayerSpec.from_layer(SimpleNamespace(data=np.zeros((5, 12, 16, 3), np.uint8), rgb=True), lazily=True)


def request(config: FitConfig, device: str) -> FitRequest:
    return FitRequest(SPEC, config, device, 0, 2.0, "signed")


class Asker:
    """An estimator for tests. Its trials wait until `settle` releases them."""

    def __init__(self) -> None:
        self.wish: Any = "first"
        self.questions = 0
        self.said: list[str] = []
        self.tried: list[Any] = []
        self.trying, self.go = threading.Event(), threading.Event()
        self.estimator = Estimator(self.question)
        self.estimator.message.connect(self.said.append)

    def question(self) -> Any:
        self.questions += 1
        if isinstance(self.wish, Exception):
            raise self.wish
        return None if self.wish is None else request(FitConfig(), self.wish)

    def estimate(self, shape: Any, channels: int, config: FitConfig, device: str, spacing: Any) -> Estimate:
        self.tried.append((shape, channels, device))
        self.trying.set()
        assert self.go.wait(LIMIT)
        if device == "broken":
            raise DeviceError("the device is gone.")
        if device == "strange":
            raise ZeroDivisionError("of a driver")
        return Estimate(8.0, 10**6, 1, 1, "torch", device, True, None)

    def ask(self, wish: Any) -> None:
        self.wish = wish
        self.estimator.ask_again()

    @property
    def asking(self) -> bool:
        """Whether the estimator still waits for changes to settle."""
        return self.estimator._timer.isActive()

    def settle(self) -> None:
        """Release the trials, wait for their end, and handle their signals."""
        self.go.set()
        assert QThreadPool.globalInstance().waitForDone(1000 * LIMIT)
        QCoreApplication.processEvents()


@pytest.fixture
def asker(qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Asker]:
    monkeypatch.setattr(estimator_module, "_SETTLED_MS", 5)
    asker = Asker()
    monkeypatch.setattr(estimate_module, "estimate", asker.estimate)
    yield asker
    asker.estimator.close()
    asker.settle()


def test_it_says_what_a_fit_will_take(asker: Asker, qtbot: Any) -> None:
    asker.go.set()
    asker.ask("cpu")
    qtbot.waitUntil(lambda: bool(asker.said))
    assert asker.said == [SIZES + "cpu: about 8 s, 1 MB"]
    assert asker.tried == [((5, 12, 16), 3, "cpu")]


def test_many_changes_at_once_are_one_question(asker: Asker, qtbot: Any) -> None:
    asker.go.set()
    for device in ("first", "second", "third"):
        asker.ask(device)
    qtbot.waitUntil(lambda: bool(asker.said))
    assert asker.questions == 1
    assert asker.said == [SIZES + "third: about 8 s, 1 MB"]


def test_of_the_wishes_during_a_trial_the_last_one_counts(asker: Asker, qtbot: Any) -> None:
    asker.ask("first")
    qtbot.waitUntil(asker.trying.is_set)
    for device in ("second", "third", "fourth"):
        asker.ask(device)
        qtbot.waitUntil(lambda: not asker.asking)
    assert len(asker.tried) == 1
    asker.go.set()
    qtbot.waitUntil(lambda: bool(asker.said))
    # The answer to the first question is not said, because the settings have changed since.
    assert asker.said == [SIZES + "fourth: about 8 s, 1 MB"]
    assert len(asker.tried) == 2


@pytest.mark.parametrize(
    ("wish", "text"),
    [
        (InputError("there is no image."), "there is no image."),
        ("broken", "the device is gone."),
        ("strange", "ZeroDivisionError: of a driver"),
    ],
)
def test_it_says_why_there_is_no_estimate_and_is_ready_for_the_next(
    asker: Asker, qtbot: Any, wish: Any, text: str
) -> None:
    asker.go.set()
    asker.ask(wish)
    qtbot.waitUntil(lambda: asker.said == [text])
    asker.ask("cpu")
    qtbot.waitUntil(lambda: len(asker.said) == 2)
    assert asker.said[-1] == SIZES + "cpu: about 8 s, 1 MB"


def test_where_nothing_is_asked_for_it_says_nothing(asker: Asker, qtbot: Any) -> None:
    asker.go.set()
    asker.ask(None)
    qtbot.waitUntil(lambda: asker.questions == 1)
    asker.settle()
    assert (asker.said, asker.tried) == ([], [])


def test_when_closed_it_neither_asks_nor_says_any_more(asker: Asker, qtbot: Any) -> None:
    asker.ask("first")
    qtbot.waitUntil(asker.trying.is_set)
    asker.ask("second")
    qtbot.waitUntil(lambda: not asker.asking)
    asker.estimator.close()
    asker.settle()
    asker.ask("third")
    assert not asker.asking
    assert asker.questions == 1
    assert asker.said == []


def test_a_real_estimate(qtbot: Any) -> None:
    config = FitConfig.preset("fast", engine="torch", hidden_features=4, hidden_layers=1)
    estimator = Estimator(lambda: request(config, "cpu"))
    with qtbot.waitSignal(estimator.message) as said:
        estimator.ask_again()
    assert re.fullmatch(SIZES + r"cpu \(\d+ threads?\): about [\w ]+, \d+ MB", said.args[0])
