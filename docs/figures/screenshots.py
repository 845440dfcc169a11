"""Screenshots of napari's window for README and the documentation: the panel before, during and after fits; a batch.

    make screenshots

Xvfb is needed if there is no screen. Each picture shows a whole window of 1280 x 800 pixels.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from PIL import Image

FOLDER = Path(__file__).parent / "napari"
# Width and height of the window, in pixels.
SIZE = (1280, 800)


def wait(until: Callable[[], bool] = lambda: False, seconds: float = 240.0) -> None:
    """Run the event loop until a condition holds, or for at most some seconds."""
    from qtpy.QtWidgets import QApplication

    app, end = QApplication.instance(), time.perf_counter() + seconds
    while time.perf_counter() < end and not until():
        app.processEvents()
        time.sleep(0.002)


@contextmanager
def opened(sample: str, theme: str) -> Iterator[tuple[Any, Any]]:
    """Open a viewer with a sample and the panel, and close it at the end."""
    import napari

    viewer = napari.Viewer(show=True)
    viewer.theme = theme
    viewer.window._qt_window.resize(*SIZE)
    viewer.open_sample("napari-siren", sample)
    _, panel = viewer.window.add_plugin_dock_widget("napari-siren", "SIREN")
    wait(seconds=1)
    viewer.reset_view()
    try:
        yield viewer, panel
    finally:
        viewer.close()
        wait(seconds=0.5)


def estimated(panel: Any) -> Callable[[], bool]:
    """Return a condition: the panel shows the estimate of the time."""
    return lambda: "about" in panel.fit_panel.estimate.text()


def idle(panel: Any) -> Callable[[], bool]:
    """Return a condition: no fit is running."""
    from napari_siren.ui.session import SessionState

    return lambda: panel.session.state is SessionState.IDLE


def shoot(viewer: Any, name: str) -> None:
    """Save a screenshot of the whole window."""
    wait(seconds=0.7)
    FOLDER.mkdir(exist_ok=True)
    window = viewer.screenshot(canvas_only=False, flash=False)[..., :3]
    # The window shows a photograph. A WebP file has a fifth of the size of a PNG.
    Image.fromarray(window).save(FOLDER / f"{name}.webp", quality=90, method=6)
    print(name)


def photo(theme: str) -> None:
    """Save the window before, during and after an enlargement of the photograph, with a trial, and with the divider."""
    with opened("kodak23", theme) as (viewer, panel):
        panel.fit_panel.preset_box.setCurrentText("upscale")
        wait(estimated(panel), 30)
        shoot(viewer, f"photo-before-{theme}")
        overview = viewer.camera.center, viewer.camera.zoom
        viewer.camera.center, viewer.camera.zoom = (0, 225, 215), 4
        viewer.mouse_over_canvas = False
        panel.run_panel.try_button.click()
        wait(lambda: "Tried" in panel.run_panel.status.text())
        shoot(viewer, f"photo-try-{theme}")
        panel.run_panel.try_button.click()
        viewer.camera.center, viewer.camera.zoom = overview
        steps: list[int] = []
        panel.session.updated.connect(lambda update: steps.append(update.progress.step))
        panel.run_panel.fit_button.click()
        wait(lambda: bool(steps) and steps[-1] >= 2)
        shoot(viewer, f"photo-during-{theme}")
        wait(idle(panel))
        panel.sections["results"].expand(animate=False)
        shoot(viewer, f"photo-after-{theme}")
        viewer.camera.center, viewer.camera.zoom = (0, 225, 195), 8
        panel.compare_bar.divider_button.click()
        shoot(viewer, f"photo-close-{theme}")


def stack(theme: str) -> None:
    """Save the window with a part of a confocal stack, drawn as a rectangle, fitted, and shown close up."""
    with opened("confocal_stack", theme) as (viewer, panel):
        image = viewer.layers[0]
        viewer.dims.set_current_step(0, 12)
        # Without z, so that napari shows it in every slice.
        corners = [[40, 50], [40, 90], [92, 90], [92, 50]]
        viewer.add_shapes(
            [corners],
            scale=image.scale[1:],
            shape_type="rectangle",
            name="around one cell",
            edge_color="#ffb000",
            face_color="transparent",
            edge_width=1,
            units=image.units[1:],
        )
        viewer.layers.selection.active = image
        panel.source_panel.region_box.setCurrentIndex(2)
        panel.fit_panel.preset_box.setCurrentText("faithful")
        wait(estimated(panel), 30)
        panel.run_panel.fit_button.click()
        wait(idle(panel))
        panel.sections["curve"].collapse(animate=False)
        panel.sections["results"].expand(animate=False)
        viewer.layers["around one cell"].visible = True
        viewer.camera.center, viewer.camera.zoom = (4.6, 22.8, 24.6), 18
        shoot(viewer, f"stack-{theme}")


def advanced(theme: str) -> None:
    """Save the window with all advanced settings."""
    with opened("small_photo", theme) as (viewer, panel):
        panel.sections["results"].collapse(animate=False)
        panel.sections["settings"].expand(animate=False)
        wait(estimated(panel), 30)
        area = panel.tabs.widget(0)
        area.verticalScrollBar().setValue(panel.sections["settings"].y())
        shoot(viewer, f"settings-{theme}")


def batch(theme: str) -> None:
    """Save the window after a batch of photographs, one of them damaged, with one opened result."""
    from napari_siren.io.images import read_image, sample_path
    from napari_siren.ui.panels.batch_panel import BatchState

    pixels = read_image(sample_path()).array
    with tempfile.TemporaryDirectory() as root, opened("kodak23", theme) as (viewer, panel):
        folder = Path(root) / "photographs" / "parrots"
        folder.mkdir(parents=True)
        for i in range(9):
            row, column = 160 * (i // 3), 210 * (i % 3) + 60
            Image.fromarray(pixels[row : row + 128, column : column + 128]).save(folder / f"parrot_{i + 1}.png")
        (folder / "parrot_6.png").write_bytes(b"damaged")
        viewer.layers.clear()
        viewer.open(folder / "parrot_4.png", plugin="napari")
        panel.tabs.setCurrentIndex(1)
        form = panel.batch_panel.form
        form.folder.set_text(str(folder))
        form.preset_box.setCurrentText("fast")
        panel.batch_panel.start_button.click()
        wait(lambda: panel.batch_panel.state is BatchState.IDLE)
        panel.batch_panel.list.setCurrentItem(panel.batch_panel.list.topLevelItem(4))
        panel.batch_panel.result_button.click()
        wait(lambda: len(viewer.layers) == 2, 30)
        viewer.reset_view()
        shoot(viewer, f"batch-{theme}")


def main() -> None:
    """Save all screenshots, in both themes."""
    for theme in ("dark", "light"):
        photo(theme)
        stack(theme)
        advanced(theme)
        batch(theme)


if __name__ == "__main__":
    # Use neither the settings nor the screen of the user.
    with tempfile.TemporaryDirectory() as home:
        os.environ["NAPARI_CONFIG"] = str(Path(home) / "settings.yaml")
        os.environ["XDG_CONFIG_HOME"] = home
        if os.environ.get("DISPLAY"):
            screen: Any = nullcontext()
        else:
            from pyvirtualdisplay.display import Display

            screen = Display(visible=False, size=(1400, 900), color_depth=24)
        with screen:
            main()
