"""Files of a training: tensors with metadata, the weights of a network, and a card with their description."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from napari_siren.core.pretrained_network.network import NetworkShape, PretrainedNetwork
from napari_siren.core.storage.atomic import atomic_write
from napari_siren.core.storage.records import Record, parse_json
from napari_siren.errors import StorageError

# Figures on test sets: for each set and each case, the figure of each way to use the network.
Figures = Mapping[str, Mapping[str, Mapping[str, float]]]

# Kinds of training whose figures are gains over bicubic interpolation.
_GAIN_KINDS = ("enlarge", "robust")

_CARD = """# {title}

{text}
`{name}.safetensors`: {parameters} parameters in float16; configuration in its metadata.

- Data: {photographs} photographs, {megapixels:.0f} megapixels, {held_out} more held out. Names and contents have the
  SHA-256 `{data}`.
{limits}
- Training: {minutes:.1f} minutes, {steps} steps of {batch} crops of {crop} x {crop}, {rate:.0f} crops a second, by
  {how}; seed {seed}; {date}; {device}; PyTorch {torch}.{best}

## Figures

{measure}

{figures}
"""

_TITLES = {
    "enlarge": "Weights that enlarge images",
    "denoise": "Weights that remove noise from photographs",
    "microscope": "Weights that remove noise from micrographs, and enlarge them",
    "stack": "Weights that remove noise from stacks of micrographs",
    "robust": "Weights that enlarge noisy and compressed images",
}

_MAP = """
The second input is a map of the noise's standard deviation, pixel by pixel: sqrt(max(0, a + b max(0, g))). Here
a + b s is the variance of the noise at a signal s, and g is the noisy image after a Gaussian filter (sigma 1.5 pixels,
9 taps, outermost pixels repeated). The network multiplies the map by 4 itself. a and b may be estimates: in training
the map was up to {error} too large or too small."""
_DETAIL = """
- Detail is likely, not certain: it is typical of the training photographs, and measurements should not be made on
  it."""

_MICROGRAPHS = """\
- The photographs were stretched, inverted, raised to powers from 0.7 to 4 and blurred by 0.6 to 4 pixels, to resemble
  micrographs; none of them is one. Noise: 1 to 100 % of the brightest signal, at most half of the range; of photons
  and of reading in all proportions; of an electron multiplier for three in ten crops; correlated by 0.4 to 0.6 pixels
  for a fifth of them."""

_TEXTS = {
    "enlarge": """
A network that adds detail to images enlarged by bicubic interpolation, by any factor from 1.5 to 4; of luminance
(BT.601, 0 black to 1 white).""",
    "denoise": """
A network whose output is added to noisy luminance (BT.601, 0 black to 1 white), which is not clipped."""
    + _MAP.format(error="15 %"),
    "microscope": """
A network whose output is added to bicubic interpolation, by 1 to 4 times, of a noisy micrograph of one channel. Before,
an offset (about its 0.1 percentile) is subtracted from it and it is divided by a robust range. Its signal is then from
about 0 to about 1. The network removes noise and keeps the blur of the optics."""
    + _MAP.format(error="25 %"),
    "stack": """
A network whose output is added to a noisy plane of a stack, or to a noisy frame of a film. Before, an offset (about the
0.1 percentile of the stack) is subtracted from it and it is divided by a robust range. Its signal is then from about 0
to about 1. The network removes noise and keeps the blur."""
    + _MAP.format(error="25 %")
    + """
The third and the fourth input are the noisy planes before and after. For the first and the last plane of a stack both
are the only neighbour.""",
    "robust": """
A network whose output is added to bicubic interpolation, by 1 to 4 times, of luminance (BT.601, 0 black to 1 white)
that may be noisy, compressed by JPEG, or made coarser by area means or with a blur."""
    + _MAP.format(error="15 % (of compressed crops 40 %)")
    + """
The map does not include the errors of JPEG. The third input is the same everywhere: (100 - quality) / 100 of JPEG, from
0 to 0.6, and 0 without JPEG or if its quality is not known.""",
}

_LIMITS = {
    "enlarge": """
- Made coarser as by MATLAB's imresize (antialiased bicubic, 8 bits): images with another blur, with noise or with
  traces of compression differ from these, and it may sharpen them too much."""
    + _DETAIL,
    "denoise": """
- Noise: Gaussian, 0 to 60 grey levels of 255, for half of the crops; photons, 20 to 2000 at white, with 0 to 5
  electrons of reading noise for the others. It is independent from pixel to pixel.""",
    "microscope": f"""
{_MICROGRAPHS}
- Pixels are means over their area for half of the crops, else antialiased bicubic.""",
    "stack": f"""
{_MICROGRAPHS}
- Each stack is made from one photograph: two layers at depths of -2.5 to 2.5 planes, whose blur grows by 0.05 to 3
  pixels a plane and whose light decreases; half of the stacks move, by about 0.05 to 3 pixels a plane.""",
    "robust": """
- Made coarser by antialiased bicubic for three of five crops, else by area means or by a Gaussian of 0.2 to 0.6
  coarse pixels before it; noise up to 8 % of white for seven of ten; JPEG of 40 to 100 for half of them."""
    + _DETAIL,
}

_PSNR = "PSNR in dB, for a range of 1; the noise is drawn by the true model, and its map is that of the model."
_GAIN = "PSNR of Y in 8 bits, in dB, without a border as wide as the factor; gains are over bicubic interpolation."


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file; at any time there is either the old or the new one, complete.

    Raises
    ------
    StorageError
        The file cannot be written.
    """
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        file.write(data)
        file.flush()
        # The machine may stop at any time, and a training should not start again.
        os.fsync(file.fileno())


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write tensors as safetensors, with values in JSON as metadata.

    Raises
    ------
    StorageError
        The file cannot be written.
    """
    copies = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    write_bytes(path, save(copies, {name: json.dumps(value) for name, value in metadata.items()}))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read tensors and metadata written by `save_tensors`.

    Raises
    ------
    StorageError
        The file does not exist, or is not such a file.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = {name: parse_json(value) for name, value in (file.metadata() or {}).items()}
            return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118
    except (OSError, SafetensorError, ValueError) as error:
        raise StorageError(f"cannot read {path}: {error}. Choose a file of trained weights.") from error


def append_record(path: Path, record: Mapping[str, Any]) -> None:
    """Add a line of JSON to a log.

    Raises
    ------
    StorageError
        The file cannot be written.
    """
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}. Choose another folder.") from error


def save_network(network: PretrainedNetwork, path: Path, metadata: Mapping[str, Any]) -> None:
    """Write the weights of a network in float16, with metadata.

    Raises
    ------
    StorageError
        The file cannot be written.
    """
    tensors = {name: parameter.detach().half() for name, parameter in network.named_parameters()}
    save_tensors(path, tensors, {"network": network.shape.__dict__, **metadata})


class _Sizes(Record):
    """The fields of a `NetworkShape`, in ranges that keep the network small."""

    features: Annotated[int, Field(ge=1, le=1024)]
    dilations: Annotated[tuple[Annotated[int, Field(ge=1, le=64)], ...], Field(max_length=64)]
    width: Annotated[int, Field(ge=1, le=1024)]
    layers: Annotated[int, Field(ge=1, le=16)] = 2
    interpolation: Literal["linear", "cubic"] = "linear"
    inputs: Annotated[int, Field(ge=1, le=4)] = 1

    def check_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Raise a ValueError if the largest tensors do not have these sizes, or a number is not finite."""
        features, width, blocks = self.features, self.width, 2 * len(self.dilations)
        shapes = {"kernels": (blocks, features, 9 * features), "weights": (self.layers - 1, width, width)}
        if any(name not in tensors or tuple(tensors[name].shape) != shape for name, shape in shapes.items()):
            raise ValueError("the weights do not have the sizes of the network")
        if not all(tensor.is_floating_point() and torch.isfinite(tensor).all() for tensor in tensors.values()):
            raise ValueError("the weights contain numbers that are not finite")


def load_network(path: Path) -> PretrainedNetwork:
    """Read a network written by `save_network`, in float32.

    Raises
    ------
    StorageError
        The file does not exist, or does not hold the weights of a network.
    """
    tensors, metadata = load_tensors(path)
    try:
        sizes = _Sizes.model_validate(metadata.get("network"))
        sizes.check_tensors(tensors)
        network = PretrainedNetwork(NetworkShape(**sizes.model_dump()), torch.Generator())
        network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    except (ValueError, RuntimeError) as error:
        raise StorageError(
            f"{path} does not hold the weights of a pretrained network. Choose a file of trained weights."
        ) from error
    return network


def is_gain(kind: str) -> bool:
    """Return whether the figures of a kind of training are gains over bicubic interpolation."""
    return kind in _GAIN_KINDS


def table(kind: str, scores: Mapping[str, float], sets: Figures) -> list[str]:
    """Return the lines of a table: scores on held-out photographs, and figures on test sets."""
    sign, measure = ("+", "gain") if is_gain(kind) else ("", "PSNR")
    lines = [f"held-out photographs, {measure}: " + ", ".join(f"{k} {v:{sign}.3f}" for k, v in scores.items())]
    for name, rows in sets.items():
        ways = list(next(iter(rows.values()), {}))
        lines += ["", f"| {name} | {' | '.join(ways)} |", f"|---{'|---:' * len(ways)}|"]
        lines += [f"| {case} | {' | '.join(f'{row[way]:.2f}' for way in ways)} |" for case, row in rows.items()]
    return lines


def write_card(path: Path, kind: str, metadata: Mapping[str, Any], figures: list[str]) -> None:
    """Write the card of a file of weights, in Markdown.

    Raises
    ------
    StorageError
        The file cannot be written.
    """
    step = metadata["best_step"]
    best = f" The running mean of step {step} was the best, and is in the file." if step else ""
    text = _CARD.format(
        **{**metadata, "best": best, "figures": "\n".join(figures), "name": path.stem},
        title=_TITLES[kind],
        text=_TEXTS[kind].strip(),
        limits=_LIMITS[kind].strip(),
        measure=_GAIN if is_gain(kind) else _PSNR,
    )
    write_bytes(path, text.encode())


def today() -> str:
    """Return the date in UTC, as in ISO 8601."""
    return datetime.datetime.now(tz=datetime.UTC).date().isoformat()


def describe(device: torch.device) -> str:
    """Return the name of a device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
