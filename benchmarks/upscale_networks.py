"""Published small networks for upscaling: FSRCNN-small, FSRCNN and ESPCN by OpenCV, two of Real-ESRGAN's kind by ncnn.

The files of weights are not part of this project. The first three networks are graphs of TensorFlow (FSRCNN_x2.pb etc.,
Apache License 2.0) in the repositories that `NETWORKS` names. The package opencv-contrib-python-headless runs them. The
files of the other two are in the repository `COLOUR_REPOSITORY`, and the package ncnn runs them.

A network of OpenCV enlarges luminance in 0 to 1, as OpenCV's module dnn_superres feeds it. The colours are bicubic. A
network of ncnn enlarges RGB in 0 to 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from benchmarks.interpolators import Interpolator, bicubic, to_bytes

# Names of the networks, and the repositories on GitHub with their files.
NETWORKS = {
    "FSRCNN-small": "Saafke/FSRCNN_Tensorflow",
    "FSRCNN": "Saafke/FSRCNN_Tensorflow",
    "ESPCN": "fannymonori/TF-ESPCN",
}
# Names of the networks for ncnn, and their files without the endings ".param" and ".bin".
COLOUR_NETWORKS = {"realesr-animevideov3": "realesr-animevideov3-x{}", "upscayl-lite": "upscayl-lite-{}x"}
COLOUR_REPOSITORY = "upscayl/upscayl"
# Y of RGB (BT.601, full range), as in OpenCV's YCrCb.
_LUMA = np.array([0.299, 0.587, 0.114])


def networks(folder: Path, scales: Iterable[int]) -> tuple[dict[str, Interpolator], list[str]]:
    """Read the networks with a file for every scale.

    Parameters
    ----------
    folder
        Folder with the files. Its subfolders are searched, too.
    scales
        Scales that the benchmark needs.

    Returns
    -------
    tuple
        Methods by name, and a line for each network that is skipped.
    """
    cv2 = _opencv()
    if cv2 is None:
        reason = "OpenCV has no module dnn_superres here. Install opencv-contrib-python-headless."
        return {}, [f"{', '.join(NETWORKS)} are skipped: {reason}"]
    methods: dict[str, Interpolator] = {}
    skipped = []
    for name, repository in NETWORKS.items():
        files, missing = _find(folder, {scale: f"{name}_x{scale}.pb" for scale in scales})
        if missing:
            skipped.append(_reason(name, missing, folder, repository))
        else:
            graphs = {scale: cv2.dnn.readNetFromTensorflow(str(path)) for scale, path in files.items()}
            methods[name] = partial(_enlarge, graphs=graphs)
    return methods, skipped


def colour_networks(folder: Path, scales: Iterable[int]) -> tuple[dict[str, Interpolator], list[str]]:
    """Read the networks for ncnn with files for every scale; parameters and result as of `networks`."""
    try:
        import ncnn
    except ImportError:
        return {}, [f"{', '.join(COLOUR_NETWORKS)} are skipped: there is no ncnn here. Install ncnn."]
    methods: dict[str, Interpolator] = {}
    skipped = []
    for name, pattern in COLOUR_NETWORKS.items():
        stems = {scale: pattern.format(scale) for scale in scales}
        files, missing = _find(folder, {scale: f"{stem}.param" for scale, stem in stems.items()})
        missing += [path.with_suffix(".bin").name for path in files.values() if not path.with_suffix(".bin").exists()]
        if missing:
            skipped.append(_reason(name, missing, folder, COLOUR_REPOSITORY))
        else:
            nets = {scale: _read(ncnn, path) for scale, path in files.items()}
            methods[name] = partial(_enlarge_colours, ncnn=ncnn, nets=nets)
    return methods, skipped


def _find(folder: Path, names: dict[int, str]) -> tuple[dict[int, Path], list[str]]:
    """Return the files by scale, and the names of those that are not in the folder or its subfolders."""
    found = {scale: min(folder.rglob(name), default=None) for scale, name in names.items()}
    files = {scale: path for scale, path in found.items() if path is not None}
    return files, [name for scale, name in names.items() if scale not in files]


def _reason(name: str, missing: list[str], folder: Path, repository: str) -> str:
    reason = f"{', '.join(missing)} not found in {folder}. The repository {repository} on GitHub has the files."
    return f"{name} is skipped: {reason}"


def _read(ncnn: ModuleType, path: Path) -> Any:
    """Read a network for ncnn, with as many threads as PyTorch."""
    net = ncnn.Net()
    net.opt.num_threads = torch.get_num_threads()
    if net.load_param(str(path)) or net.load_model(str(path.with_suffix(".bin"))):
        raise ValueError(f"ncnn cannot read {path} with its .bin.")
    return net


def _opencv() -> ModuleType | None:
    """Return OpenCV with as many threads as PyTorch, or None if its module dnn_superres is not installed."""
    try:
        import cv2
    except ImportError:
        return None
    if not hasattr(cv2, "dnn_superres"):
        return None
    # This registers the layer DepthToSpace of these graphs. OpenCV's own layer does not read them.
    cv2.dnn_superres.DnnSuperResImpl_create()
    cv2.setNumThreads(torch.get_num_threads())
    module: ModuleType = cv2
    return module


def _enlarge(low: np.ndarray, scale: int, graphs: dict[int, Any]) -> np.ndarray:
    """Enlarge an image, uint8 (rows, columns) or (rows, columns, 3), by the graph for a scale."""
    luma = low if low.ndim == 2 else low @ _LUMA
    graph = graphs[scale]
    graph.setInput((luma[np.newaxis, np.newaxis] / 255).astype(np.float32))
    fine = 255 * graph.forward()[0, 0].astype(np.float64)
    if low.ndim == 2:
        return to_bytes(fine)
    colours = bicubic(low, scale).astype(np.float64)
    # Equal changes of R, G and B change Y, and neither Cr nor Cb.
    return to_bytes(colours + (fine - colours @ _LUMA)[..., np.newaxis])


def _enlarge_colours(low: np.ndarray, scale: int, ncnn: ModuleType, nets: dict[int, Any]) -> np.ndarray:
    """Enlarge an image, uint8 (rows, columns) or (rows, columns, 3), by ncnn's network for a scale."""
    colours = np.broadcast_to(low[np.newaxis], (3, *low.shape)) if low.ndim == 2 else low.transpose(2, 0, 1)
    blob = np.ascontiguousarray(colours / 255, dtype=np.float32)
    extractor = nets[scale].create_extractor()
    extractor.input("data", ncnn.Mat(blob))
    status, result = extractor.extract("output")
    if status:
        raise RuntimeError(f"ncnn's network for x{scale} ends with status {status}.")
    fine = 255 * np.array(result, dtype=np.float64).transpose(1, 2, 0)
    return to_bytes(fine @ _LUMA if low.ndim == 2 else fine)
