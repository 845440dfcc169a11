"""The peer: a plain SIREN in PyTorch, 5 x 256, every pixel at each step, eager, float32.

Written after the common public implementations (Sitzmann et al. 2020 and siren-pytorch), to be run beside ours.
"""

from __future__ import annotations

import math
import time

import numpy as np
import torch
from torch import nn


class Sine(nn.Module):
    def __init__(self, inputs: int, outputs: int, omega_0: float = 30.0, first: bool = False) -> None:
        super().__init__()
        self.omega_0 = omega_0
        self.linear = nn.Linear(inputs, outputs)
        bound = 1 / inputs if first else math.sqrt(6 / inputs) / omega_0
        nn.init.uniform_(self.linear.weight, -bound, bound)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sin(self.omega_0 * self.linear(x))


def plain_siren(channels: int, width: int = 256, layers: int = 5) -> nn.Module:
    last = nn.Linear(width, channels)
    bound = math.sqrt(6 / width) / 30
    nn.init.uniform_(last.weight, -bound, bound)
    return nn.Sequential(Sine(2, width, first=True), *[Sine(width, width) for _ in range(layers - 1)], last)


def seconds_per_step(image: np.ndarray, device: str, steps: int) -> list[float]:
    """Seconds of each of the first steps, the very first included (it also pays for fresh memory)."""
    torch.manual_seed(0)
    net = plain_siren(image.shape[2]).to(device)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4)
    axes = [torch.linspace(-1, 1, n, device=device) for n in image.shape[:2]]
    coordinates = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, 2)
    target = torch.from_numpy(image.reshape(-1, image.shape[2]).astype(np.float32) / 255).to(device)
    seconds = []
    for _ in range(steps):
        begin = time.perf_counter()
        loss = (net(coordinates) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()  # waits for the device
        seconds.append(time.perf_counter() - begin)
    return seconds
