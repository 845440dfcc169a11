"""`can_plot`: whether matplotlib, which the extra "plots" installs, is there for figures."""

from __future__ import annotations

from importlib.util import find_spec


def can_plot() -> bool:
    """Return whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def left_out(figures: str) -> str:
    """Return a note on figures that are not drawn without matplotlib.

    Parameters
    ----------
    figures
        Names of the figures, as the beginning of the sentence.
    """
    return f'{figures} left out: figures need matplotlib; install it with: pip install "napari-siren[plots]"'
