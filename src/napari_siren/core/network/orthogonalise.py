"""Orthogonalisation of matrices, as Muon needs it: by products alone, to a few per cent."""

from __future__ import annotations

import torch
from torch import Tensor

# Polar Express (Amsel et al. 2025, arXiv 2505.16932, algorithm 1) in three steps from 0.02: odd quintics, each the best
# there is for what the one before leaves. Directions below a fiftieth of the largest are left short of one; five steps,
# which reach those too, gain a fit nothing.
ORTHOGONALISATION = (
    (7.710969770468588, -22.1137562625831, 16.248743954739513),
    (3.2152760810068908, -2.4111722315322246, 0.5013000721081345),
    (2.2183077155967528, -1.593989612766451, 0.41074789698672853),
)


def orthogonalise(matrices: Tensor) -> Tensor:
    """Return about the nearest matrices to (…, n, m) whose rows, or columns where these are fewer, are orthonormal."""
    tall = matrices.shape[-2] > matrices.shape[-1]
    wide = matrices.mT if tall else matrices
    x: Tensor = wide / (torch.linalg.matrix_norm(wide, keepdim=True) * 1.01 + 1e-30)
    for a, b, c in ORTHOGONALISATION:
        gram = x @ x.mT
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x.mT if tall else x
