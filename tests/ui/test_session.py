"""Tests of the session: its states, several requests at once, late updates, errors."""

from __future__ import annotations

import gc
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from weakref import ref

import numpy as np
import pytest
from driving import ENDLESS, notified, tiny, wait_all_ended
from napari.components import ViewerModel
from napari.utils import progress
from qtpy.QtCore import QCoreApplication

from napari_siren import FitResult, InputError
from napari_siren.layers.outputs import METADATA_KEY, RESULT_KEY
from napari_siren.layers.spec import LayerSpec
from napari_siren.ui import renders as renders_module
from napari_siren.ui import session as session_module
from napari_siren.ui.result_layers import ResultLayers
from napari_siren.ui.session import Session, SessionState
from napari_siren.ui.tasks.fit import FitRequest, Outcome
from napari_siren.ui.tasks.jobs import Job


@pytest.fixture
def viewer() -> ViewerModel:
    model = ViewerModel()
    model.add_image(np.random.default_rng(0).integers(0, 255, (8, 10), dtype=np.uint8), name="cells")
    return model


@pytest.fixture
def session(viewer: ViewerModel, qtbot: Any) -> Any:
    made = Session(viewer)
    made.texts = []
    made.message.connect(made.texts.append)
    yield made
    made.close()
    wait_all_ended(qtbot)


@pytest.fixture
def fitted_session(session: Any, viewer: ViewerModel, qtbot: Any) -> Any:
    session.start(Job(request(viewer), viewer.layers[0]))
    wait_for(qtbot, session, SessionState.IDLE)
    assert session.result is not None
    return session


def request(viewer: ViewerModel, **settings: Any) -> FitRequest:
    spec = LayerSpec.from_layer(viewer.layers[0], lazily=True)
    return FitRequest(spec, tiny(**settings), "cpu", 0, 2.0, "signed", preview_rate=10)


def wait_for(qtbot: Any, session: Session, state: SessionState) -> None:
    qtbot.waitUntil(lambda: session.state is state)


def begin(qtbot: Any, session: Session, viewer: ViewerModel) -> None:
    """Start a fit without end, and wait for its first layer."""
    session.start(Job(request(viewer, max_steps=ENDLESS), viewer.layers[0]))
    qtbot.waitUntil(lambda: len(viewer.layers) == 2)


def upscaled(viewer: ViewerModel) -> Any:
    [layer] = [layer for layer in viewer.layers[1:] if layer.metadata[METADATA_KEY]["role"] == "upscaled"]
    return layer


# ---- states -------------------------------------------------------------------------------------------


def test_what_makes_no_sense_now_is_left(session: Any, viewer: ViewerModel) -> None:
    session.pause()
    session.resume()
    session.stop()
    session.go_on(5)
    session.rescale(3)
    session.show_error("absolute")
    session.show_derivative("laplacian")
    session.adopt(viewer.layers[0])
    assert session.state is SessionState.IDLE
    assert len(viewer.layers) == 1
    assert session.texts == []


def test_one_fit_at_a_time(session: Any, viewer: ViewerModel, qtbot: Any, fitted: FitResult) -> None:
    begin(qtbot, session, viewer)
    first = session.job
    session.start(Job(request(viewer), viewer.layers[0]))
    session.go_on(3)
    session.rescale(3)
    session.adopt(SimpleNamespace(metadata={RESULT_KEY: fitted}))
    assert session.job is first
    assert session.result is None
    session.stop()
    session.stop()
    session.pause()
    assert session.state is SessionState.ENDING
    wait_for(qtbot, session, SessionState.IDLE)
    assert session.result.history.stopped == "asked"


def test_a_pause_can_be_asked_for_at_once(session: Any, viewer: ViewerModel, qtbot: Any) -> None:
    session.start(Job(request(viewer, max_steps=ENDLESS), viewer.layers[0]))
    session.pause()
    qtbot.waitUntil(lambda: session.texts[-1].startswith("Paused at step"))
    session.resume()
    qtbot.waitUntil(lambda: session.texts[-1].startswith("Fitting"))


def test_the_bar_of_napari_comes_and_goes(session: Any, viewer: ViewerModel, qtbot: Any) -> None:
    begin(qtbot, session, viewer)
    [bar] = progress._all_instances
    assert (bar.total, bar.desc) == (ENDLESS, "SIREN: cells")
    qtbot.waitUntil(lambda: bar.n > 5)
    # The remaining time is that of the panel.
    qtbot.waitUntil(lambda: " left" in session.texts[-1])
    remaining = session.texts[-1].split("; ")[-1]
    assert str(bar).endswith(f" of {ENDLESS}, {remaining}")
    session.stop()
    wait_for(qtbot, session, SessionState.IDLE)
    assert not progress._all_instances


def test_only_a_fit_of_this_session_can_go_on(fitted_session: Any, viewer: ViewerModel, fitted: FitResult) -> None:
    assert fitted_session.can_go_on
    model = viewer.add_image(fitted.reconstruction, rgb=True, metadata={RESULT_KEY: fitted})
    fitted_session.adopt(model)
    assert not fitted_session.can_go_on


def test_a_fit_that_goes_on_does_not_keep_the_earlier_results(fitted_session: Any, qtbot: Any) -> None:
    earlier = ref(fitted_session.result)
    for _ in range(2):
        fitted_session.go_on(2)
        wait_for(qtbot, fitted_session, SessionState.IDLE)
    wait_all_ended(qtbot)
    gc.collect()
    assert earlier() is None


def test_an_earlier_result_may_be_replaced_before_the_next_one_is_shown(
    fitted_session: Any, viewer: ViewerModel, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without a preview, there is no layer of the new fit when those of the earlier one are removed.
    monkeypatch.setattr(ResultLayers, "show_preview", lambda *_: None)
    fitted_session.start(Job(request(viewer, max_steps=7), viewer.layers[0]))
    wait_for(qtbot, fitted_session, SessionState.IDLE)
    assert fitted_session.result is not None
    assert fitted_session.shown in viewer.layers


def test_a_layer_is_taken_up_once(fitted_session: Any, viewer: ViewerModel) -> None:
    changes: list[Any] = []
    fitted_session.changed.connect(lambda: changes.append("changed"))
    fitted_session.begun.connect(lambda: changes.append("adopted"))
    own = fitted_session.result
    for layer in viewer.layers:
        fitted_session.adopt(layer)
    assert (fitted_session.result, changes) == (own, [])


# ---- late updates -------------------------------------------------------------------------------------


def test_news_after_the_end_are_not_heard(session: Any, viewer: ViewerModel, qtbot: Any) -> None:
    begin(qtbot, session, viewer)
    told: list[Any] = []
    session.updated.connect(told.append)
    qtbot.waitUntil(lambda: bool(told))
    session.close()
    assert [layer.name for layer in viewer.layers] == ["cells"]
    said, heard = list(session.texts), list(told)
    wait_all_ended(qtbot)
    # Signals from the threads that are still waiting are handled now.
    QCoreApplication.processEvents()
    session._on_update(heard[-1])
    session._on_outcome(Outcome())
    assert (session.texts, told) == (said, heard)
    assert [layer.name for layer in viewer.layers] == ["cells"]
    assert session.state is SessionState.IDLE


def test_the_outcome_may_come_while_the_bar_is_drawn(session: Any, viewer: ViewerModel, qtbot: Any) -> None:
    """Check the last message: it must be the outcome. napari handles events while it draws the bar."""
    told: list[Any] = []
    session.updated.connect(told.append)
    begin(qtbot, session, viewer)
    qtbot.waitUntil(lambda: bool(told))
    bar, control = session._bar, session._control
    control.cancel()
    session._bar = SimpleNamespace(
        n=0, set_postfix_str=bar.set_postfix_str, update=lambda _: session._on_outcome(Outcome()), close=bar.close
    )
    session._on_update(told[-1])
    assert session.state is SessionState.IDLE
    assert session.texts[-1] == "Nothing was fitted."


@pytest.fixture
def renders(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Callable[[], Any], Callable[[Any], None]]]:
    """The waiting renders, with the functions for their results. They do not run in the background."""
    waiting: list[Any] = []

    def start(work: Any, *arguments: Any, returned: Any) -> None:
        waiting.append((lambda: work(*arguments), returned))

    monkeypatch.setattr(renders_module, "start_function", start)
    return waiting


def finish(renders: list[Any]) -> None:
    make, returned = renders.pop(0)
    returned(make())


def test_of_many_wishes_the_last_one_counts(fitted_session: Any, viewer: ViewerModel, renders: list[Any]) -> None:
    for scale in (3, 4, 5):
        fitted_session.rescale(scale)
    # A render of another role does not wait.
    fitted_session.show_error("absolute")
    assert len(renders) == 2
    finish(renders)
    assert upscaled(viewer).data.shape == (24, 30)
    finish(renders)
    assert viewer.layers[-1].name == "cells [absolute error]"
    finish(renders)
    assert upscaled(viewer).data.shape == (40, 50)
    assert renders == []


def test_a_render_of_an_earlier_fit_is_dropped(
    fitted_session: Any, viewer: ViewerModel, renders: list[Any], qtbot: Any
) -> None:
    fitted_session.rescale(3)
    fitted_session.rescale(4)
    fitted_session.start(Job(request(viewer, max_steps=7), viewer.layers[0]))
    wait_for(qtbot, fitted_session, SessionState.IDLE)
    # The layers of the earlier fit of the same image have been replaced.
    assert len(viewer.layers) == 4
    finish(renders)
    assert renders == []
    assert [layer.data.shape for layer in viewer.layers] == [(8, 10), (8, 10), (16, 20), (8, 10)]
    # The dropped request does not block the next one.
    fitted_session.rescale(5)
    finish(renders)
    assert viewer.layers[-2].data.shape == (40, 50)


def test_a_render_after_the_end_is_dropped(fitted_session: Any, viewer: ViewerModel, renders: list[Any]) -> None:
    fitted_session.rescale(3)
    fitted_session.rescale(4)
    said = list(fitted_session.texts)
    fitted_session.close()
    finish(renders)
    assert (renders, fitted_session.texts) == ([], said)
    assert upscaled(viewer).data.shape == (16, 20)


# ---- errors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (InputError("too many pixels. Take fewer."), "too many pixels. Take fewer."),
        (RuntimeError("surprise"), "surprise"),
    ],
)
def test_a_render_that_fails(
    fitted_session: Any,
    viewer: ViewerModel,
    qtbot: Any,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    message: str,
) -> None:
    def fail(*_: Any) -> None:
        raise error

    with notified() as errors, monkeypatch.context() as patched:
        patched.setattr(session_module, "upscaled_layer", fail)
        fitted_session.rescale(3)
        qtbot.waitUntil(lambda: not fitted_session.renders.roles)
    assert errors == [message]
    assert fitted_session.texts[-1].endswith(message)
    fitted_session.rescale(4)
    qtbot.waitUntil(lambda: not fitted_session.renders.roles)
    assert upscaled(viewer).data.shape == (32, 40)


def test_a_fit_that_fails(session: Any, viewer: ViewerModel, qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("surprise")

    with notified() as errors, monkeypatch.context() as patched:
        patched.setattr("napari_siren.core.fit.fit_iter", fail)
        session.start(Job(request(viewer), viewer.layers[0]))
        wait_for(qtbot, session, SessionState.IDLE)
    assert errors == ["surprise"]
    assert session.texts[-1] == "ZeroDivisionError: surprise"
    assert (session.result, session.can_go_on, len(viewer.layers)) == (None, False, 1)
    session.start(Job(request(viewer), viewer.layers[0]))
    wait_for(qtbot, session, SessionState.IDLE)
    assert len(viewer.layers) == 4


def test_what_goes_on_must_be_the_same_image(fitted_session: Any, viewer: ViewerModel, qtbot: Any) -> None:
    first, data = fitted_session.result, viewer.layers[1].data.copy()
    viewer.layers[0].data[:] = 0
    with notified() as errors:
        fitted_session.go_on(5)
        wait_for(qtbot, fitted_session, SessionState.IDLE)
    assert errors == [fitted_session.texts[-1]]
    assert "image" in errors[0]
    # The first fit has not changed.
    assert fitted_session.result is first
    assert len(viewer.layers) == 4
    np.testing.assert_array_equal(viewer.layers[1].data, data)
