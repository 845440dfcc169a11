"""Settings of a training, read from a file of TOML."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from napari_siren.core.pretrained_network.network import NetworkShape
from napari_siren.errors import ConfigError, StorageError

# Kinds of training; `degradation.kinds.KINDS` has their degradations.
KINDS = ("enlarge", "denoise", "microscope", "stack", "robust")
# Images to train on: photographs in RGB of 8 bits; planes without noise; noisy planes with a map of their noise.
SOURCES = ("photographs", "planes", "noisy planes")
_CHOICES = {"kind": KINDS, "source": SOURCES, "loss": ("absolute", "square")}


@dataclass(frozen=True)
class Settings:
    """The settings of a training.

    Parameters
    ----------
    kind
        Degradation of the photographs, a name in `degradation.kinds.KINDS`.
    source
        Images to train on, one of `SOURCES`. For planes see `planes`.
    loss
        Mean over a crop of the "absolute" difference to the photograph, or of its "square".
    keep_best
        Whether the final weights are those with the best score on the held-out photographs.
    network
        Sizes of the network.
    crop
        Rows and columns of the crops of input.
    batch
        Crops of a step.
    outputs
        Rows and columns of the output for a crop, and how often each is drawn (as parts of their sum).
    candidates
        Number of crops drawn for each one in use: the one with the most gradient.
    halves
        Share of the crops from photographs of half the size.
    muon_rate, adam_rate
        Largest step sizes.
    warm_up
        Steps until these are reached.
    final_rate
        Share of the largest step sizes at the end.
    weighting
        Exponent of the weight (2 / scale) of a loss: losses of larger scales are larger by themselves.
    averaging
        Decay, in a step, of the running mean of the weights.
    largest_gradient
        Largest norm of a gradient; longer ones are shortened to it.
    chunk
        Steps between two readings of the loss.
    held_out
        Names of photographs for validation.
    validation_crop
        Rows and columns of the crops for validation.
    """

    kind: str = "enlarge"
    source: str = "photographs"
    loss: str = "absolute"
    keep_best: bool = False
    network: NetworkShape = field(default_factory=NetworkShape)
    crop: int = 48
    batch: int = 32
    outputs: tuple[tuple[int, float], ...] = ((96, 0.36), (144, 0.26), (192, 0.26), (72, 0.06), (120, 0.06))
    candidates: int = 3
    halves: float = 0.25
    muon_rate: float = 0.015
    adam_rate: float = 2e-3
    warm_up: int = 200
    final_rate: float = 0.005
    weighting: float = 0.8
    averaging: float = 0.999
    largest_gradient: float = 1.0
    chunk: int = 50
    held_out: tuple[str, ...] = ("p19.jpg", "p33.jpg", "p48.jpg", "p60.jpg")
    validation_crop: int = 288

    def record(self) -> dict[str, Any]:
        """Return the settings as plain values."""
        return asdict(self)

    def with_changes(self, changes: Mapping[str, Any]) -> Settings:
        """Return other settings, with changes in the form of a file of TOML.

        Raises
        ------
        ConfigError
            A name or a choice is unknown.
        """
        network = changes.get("network", {})
        _check_names(changes, self, "settings")
        _check_names(network, self.network, "settings of the network")
        for name, choices in _CHOICES.items():
            if changes.get(name, choices[0]) not in choices:
                raise ConfigError(f"{name} = {changes[name]!r} is unknown. Choose {' or '.join(choices)}.")
        values = {name: _tuples(value) for name, value in changes.items() if name != "network"}
        shape = replace(self.network, **{name: _tuples(value) for name, value in network.items()})
        return replace(self, network=shape, **values)


def read_settings(path: Path) -> Settings:
    """Read settings from a file of TOML; the others have their defaults.

    Raises
    ------
    StorageError
        The file cannot be read, or is not TOML.
    ConfigError
        A name or a choice is unknown.
    """
    try:
        changes = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise StorageError(f"cannot read {path}: {error}. Choose a file of settings in TOML.") from error
    return Settings().with_changes(changes)


def _check_names(changes: Mapping[str, Any], settings: Settings | NetworkShape, subject: str) -> None:
    names = [f.name for f in fields(settings)]
    unknown = sorted(changes.keys() - set(names))
    if unknown:
        raise ConfigError(f"no such {subject}: {', '.join(unknown)}. Choose from {', '.join(names)}.")


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list | tuple) else value
