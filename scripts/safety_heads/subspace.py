"""Generalised Ships: how far ablating a head turns a whole data set's representation (paper, section 4.1, eq. 11).

M `[n_queries, d_model]` holds each query's last hidden state. The score is the sum of the principal angles, in
radians, between the spans of the first `rank` left singular vectors of M without and with the ablation.

Left singular vectors are the eigenvectors of the small Gram matrix M M^T; that squares the singular values, hence
float64. Angles come from cosines or, where those lose all digits (small angles), from sines (Bjorck and Golub, 1973).
"""

import torch
from torch import Tensor

from safety_heads.errors import UserError


def left_basis(hidden: Tensor, rank: int) -> Tensor:
    """The first `rank` left singular vectors of `[..., n_queries, d_model]`: `[..., n_queries, rank]`, float64.

    Raises UserError if there are fewer than `rank` queries or dimensions.
    """
    if not 1 <= rank <= min(hidden.shape[-2:]):
        n_queries, d_model = hidden.shape[-2:]
        raise UserError(
            f"rank {rank} is impossible with {n_queries} queries of {d_model} dimensions; score more queries"
        )
    hidden = hidden.double()
    _, vectors = torch.linalg.eigh(hidden @ hidden.mT)  # ascending eigenvalues
    return vectors[..., -rank:].flip(-1)


def principal_angles(basis: Tensor, other: Tensor) -> Tensor:
    """Angles in [0, pi/2] rad, ascending, between the spans of two orthonormal bases `[..., n_queries, rank]`."""
    cosines = torch.linalg.svdvals(basis.mT @ other).clamp(max=1)  # descending, so angles ascend
    residue = other - basis @ (basis.mT @ other)
    sines = torch.linalg.svdvals(residue).flip(-1).clamp(max=1)
    return torch.where(cosines**2 > 0.5, sines.arcsin(), cosines.arccos())
