"""Sines of the decoder, in PyTorch and in Triton."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from waiting import LIMIT

from napari_siren.core.pretrained_network import sines

# One command runs all tests that need a GPU: pytest -m gpu. Without a GPU, Triton's interpreter runs the kernels.
pytestmark = [pytest.mark.gpu] if torch.cuda.is_available() else []
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def test_sines_in_pytorch_are_sines() -> None:
    values, phases = torch.randn(2, 5, 4), torch.randn(5, 4)
    torch.testing.assert_close(sines.sine(values, phases), torch.sin(values + phases))
    weight = torch.randn(4)
    torch.testing.assert_close(sines.head(values, phases[0], weight), torch.sin(values + phases[0]) @ weight)


@pytest.mark.skipif(not sines.has_kernels(), reason="needs Triton")
def test_the_kernels_agree_with_pytorch() -> None:
    assert sines.kernels_agree(DEVICE)


def test_training_needs_neither_triton_nor_the_settings_of_fits() -> None:
    code = (
        "import sys; sys.modules['triton'] = None; "
        "import napari_siren.core.pretraining.pretrain as p; from napari_siren.core.pretrained_network import sines; "
        "assert not sines.has_kernels(); assert not {'psutil', 'tifffile'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stderr
