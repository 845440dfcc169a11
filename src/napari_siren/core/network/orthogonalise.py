"""Approximate orthogonalisation of matrices for Muon: by matrix products only, accurate to a few per cent."""

from __future__ import annotations

import torch
from torch import Tensor

# Coefficients of Polar Express (Amsel et al. 2025, arXiv 2505.16932, algorithm 1) in three steps, starting from 0.02.
# Each step is an odd quintic polynomial, the best one for the output of the step before. Singular values below a
# fiftieth of the largest stay below one. Five steps reach those too, but do not improve a fit.
ORTHOGONALISATION = (
    (7.710969770468588, -22.1137562625831, 16.248743954739513),
    (3.2152760810068908, -2.4111722315322246, 0.5013000721081345),
    (2.2183077155967528, -1.593989612766451, 0.41074789698672853),
)


def orthogonalise(matrices: Tensor) -> Tensor:
    """Return approximately the nearest matrices with orthonormal rows, for matrices (…, n, m).

    If there are fewer columns than rows, the columns are orthonormal instead.
    """
    tall = matrices.shape[-2] > matrices.shape[-1]
    wide = matrices.mT if tall else matrices
    x: Tensor = wide / (torch.linalg.matrix_norm(wide, keepdim=True) * 1.01 + 1e-30)
    for a, b, c in ORTHOGONALISATION:
        gram = x @ x.mT
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x.mT if tall else x
