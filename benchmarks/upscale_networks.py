"""Published small networks for upscaling, run by OpenCV: FSRCNN-small, FSRCNN and ESPCN.

The files of weights are not part of this project. They are graphs of TensorFlow (FSRCNN_x2.pb etc., Apache License
2.0) in the repositories that `NETWORKS` names. The package opencv-contrib-python-headless runs them.

A network enlarges luminance in 0 to 1, as OpenCV's module dnn_superres feeds it. The colours are bicubic.
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
        files = {scale: min(folder.rglob(f"{name}_x{scale}.pb"), default=None) for scale in scales}
        missing = [f"{name}_x{scale}.pb" for scale, path in files.items() if path is None]
        if missing:
            reason = f"{', '.join(missing)} not found in {folder}. The repository {repository} on GitHub has the files."
            skipped.append(f"{name} is skipped: {reason}")
        else:
            graphs = {scale: cv2.dnn.readNetFromTensorflow(str(path)) for scale, path in files.items()}
            methods[name] = partial(_enlarge, graphs=graphs)
    return methods, skipped


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
