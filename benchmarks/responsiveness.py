"""How long napari's window keeps a user waiting while a fit goes on: the latency of its event loop.

A timer beats in the main thread; whatever keeps it from beating keeps a click from being handled too. From the gaps
between beats follows how long a click at a random moment would have waited; the percentiles are over such moments.

    xvfb-run -s "-screen 0 1400x900x24" python -m benchmarks.responsiveness
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari
import numpy as np
from qtpy.QtCore import QEventLoop, Qt, QTimer

from benchmarks import machine
from napari_siren import FitConfig
from napari_siren.ui.contributions.samples import confocal_stack, kodak23
from napari_siren.ui.session import SessionState
from napari_siren.ui.widget import SirenWidget

BEAT_MS = 2
CASES: dict[str, tuple[Callable[[], Any], str]] = {
    "photo 768 x 512, faithful": (kodak23, "faithful"),
    "photo 768 x 512, upscale": (kodak23, "upscale"),
    "stack 25 x 137 x 147, faithful": (confocal_stack, "faithful"),
}


class Heart:
    """Beats in the main thread, and keeps the gaps between its beats."""

    def __init__(self) -> None:
        self.gaps: list[float] = []
        self._last = time.perf_counter()
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.setInterval(BEAT_MS)
        self._timer.timeout.connect(self._beat)
        self._timer.start()

    def _beat(self) -> None:
        now = time.perf_counter()
        self.gaps.append(now - self._last)
        self._last = now

    def waits(self) -> dict[str, float]:
        """Percentiles, in ms, of the time until the next beat, over moments a millisecond apart."""
        waits = np.concatenate([np.arange(gap, 0, -1e-3) for gap in self.gaps]) * 1000
        return {
            "p50_ms": round(float(np.percentile(waits, 50)), 1),
            "p95_ms": round(float(np.percentile(waits, 95)), 1),
            "p99_ms": round(float(np.percentile(waits, 99)), 1),
            "most_ms": round(float(waits.max()), 1),
        }


def run_for(seconds: float, until: Callable[[], bool] = lambda: False) -> None:
    """Run the event loop, as napari does. A loop of `processEvents` would take a core from the fit."""
    loop, check = QEventLoop(), QTimer()
    check.timeout.connect(lambda: until() and loop.quit())
    check.start(10)
    QTimer.singleShot(round(1000 * seconds), loop.quit)
    loop.exec()
    check.stop()


def measure(sample: Callable[[], Any], preset: str, seconds: float) -> dict[str, Any]:
    """Fit a sample in a shown viewer for some time, and measure the waits and the previews."""
    viewer = napari.Viewer(show=True)
    for data, meta, kind in sample():
        getattr(viewer, f"add_{kind}")(data, **meta)
    panel = SirenWidget(viewer)
    viewer.window.add_dock_widget(panel, name="SIREN")
    panel.set_config(FitConfig.preset(preset))
    run_for(6)
    idle = Heart()
    run_for(3)
    previews: list[float] = []
    steps: list[int] = []

    def count(update: Any) -> None:
        steps.append(update.progress.step)
        if update.preview is not None or update.draft is not None:
            previews.append(time.perf_counter())

    panel.session.updated.connect(count)
    idle_waits = idle.waits()
    begin, fitting = time.perf_counter(), Heart()
    panel.start()
    run_for(seconds, lambda: panel.session.state is SessionState.IDLE)
    ours = {"idle": idle_waits, "fitting": fitting.waits()}
    panel.session.stop()
    ending = Heart()
    run_for(120, lambda: panel.session.state is SessionState.IDLE)
    run_for(1)  # a short fit has ended before, and its layers are drawn now
    viewer.close()
    run_for(0.5)
    rate = (len(previews) - 1) / max(previews[-1] - previews[0], 1e-9)
    first = round(previews[0] - begin, 2)
    return {
        **ours,
        "ending": ending.waits(),
        "first_picture_s": first,
        "previews_a_second": round(rate, 2),
        "steps": steps[-1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=12)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found = {name: measure(sample, preset, options.seconds) for name, (sample, preset) in CASES.items()}
    for name, figures in found.items():
        first, rate = figures["first_picture_s"], figures["previews_a_second"]
        print(f"{name}: first picture after {first} s, {rate} more a second, {figures['steps']} steps")
        for phase in ("idle", "fitting", "ending"):
            print(f"  {phase:8}", "  ".join(f"{k} {v}" for k, v in figures[phase].items()))
    if options.out is not None:
        options.out.write_text(json.dumps({"machine": machine.describe("cpu"), "cases": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
