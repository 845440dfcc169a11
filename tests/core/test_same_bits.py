"""The same result for any number of threads: to the bit for the compiled kernel, to a grey level for networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

import napari_siren as ns
from napari_siren.io.images import read_image, sample_path

# Settings, and the largest difference between one thread and two, in grey levels of 8 bits. PyTorch adds the products
# of a convolution, and the gradients of a batch, in an order that depends on the number of threads. The compiled
# kernel does not.
CASES = {
    "faithful": ({"preset": "faithful", "max_steps": 60}, 0),
    "fast": ({"preset": "fast"}, 0),
    "paper": ({"preset": "paper", "max_steps": 4}, 1),
    "upscale": ({"preset": "upscale"}, 1),
    "denoise": ({"preset": "denoise"}, 1),
    "deblur": ({"preset": "deblur", "psf_width": 1.5, "max_steps": 30}, 1),
}


@pytest.fixture(scope="module")
def image() -> npt.NDArray[Any]:
    return read_image(sample_path()).array[200:240, 200:240, 1]


@pytest.fixture
def fit(image: npt.NDArray[Any]) -> Iterator[Callable[..., ns.FitResult]]:
    """Yield a function to fit the image with a number of threads."""
    before = torch.get_num_threads()

    def fit(threads: int, **options: Any) -> ns.FitResult:
        torch.set_num_threads(threads)
        return ns.fit(image, device="cpu", **options)

    yield fit
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", CASES)
def test_one_thread_and_two(fit: Callable[..., ns.FitResult], name: str) -> None:
    options, bound = CASES[name]
    one, two, again = (fit(threads, **options).render(scale=2) for threads in (1, 2, 1))
    np.testing.assert_array_equal(one, again)
    assert np.abs(one.astype(int) - two.astype(int)).max() <= bound


def test_a_network_learned_from_the_image(fit: Callable[..., ns.FitResult]) -> None:
    # A training amplifies the last bits. The results differ by much less than they differ from the image.
    options = {"preset": "upscale", "pretrained": None, "task_steps": 8, "max_steps": 100}
    one, two = (fit(threads, **options) for threads in (1, 2))
    difference = one.render(scale=2).astype(float) - two.render(scale=2)
    assert np.sqrt(np.square(difference).mean()) <= one.metrics.rmse / 2
