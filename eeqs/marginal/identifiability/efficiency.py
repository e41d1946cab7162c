r"""Godambe efficiency: the variance of maximum likelihood over that of the root of psi.

.. math:: e(h) = \frac{\nabla h^\top A_0^- B_0 A_0^{-\top} \nabla h}{\nabla h^\top A^- B A^{-\top} \nabla h}

for a function h of the parameters, with bread A and meat B of psi, and those of the reference score under the index 0.
For the exact score s both are the information up to sign, and the numerator is its inverse.

References
----------
Godambe (1960) Annals of Mathematical Statistics 31; McLeish & Small (1988), The Theory and Applications of Statistical
Inference Functions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from eeqs.engine.inference.estimable import estimable
from eeqs.engine.linalg import equilibrate, pseudo_inverse
from eeqs.marginal.identifiability.sums import Sums

__all__ = ["confounding", "efficiency", "known", "spectrum", "variance"]

# Equilibrated singular value, relative to the largest, below which a direction is not identified; as in the engine.
_NULL = 1e-12


def variance(sums: Sums, gradients: Tensor) -> Tensor:
    """Variance (m,) of n^{1/2} times functions of the estimate with gradients (m, p)."""
    rows = gradients @ pseudo_inverse(sums.slope)[0]
    return ((rows @ sums.meat) * rows).sum(dim=1)


def efficiency(reference: Sums, sums: Sums, gradients: Tensor) -> Tensor:
    """Efficiency (m,) of functions with gradients (m, p)."""
    return variance(reference, gradients) / variance(sums, gradients)


def known(reference: Sums, sums: Sums, gradients: Tensor) -> Tensor:
    """Whether both equations identify functions with gradients (m, p), bool (m,)."""
    return estimable(reference.slope, gradients) & estimable(sums.slope, gradients)


def spectrum(bread: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Singular values (p,) of the equilibrated bread, its right singular vectors (p, p), and which are not zero.

    The vectors are rows; entry j is the change of parameter j in units of its column's scale.
    """
    scaled, _, _ = equilibrate(bread)
    _, values, right = torch.linalg.svd(scaled)
    return values, right, values > _NULL * values[0]


def confounding(bread: Tensor, perturbation: Tensor) -> tuple[float, Tensor]:
    r"""Least share of the information on the perturbation that is left once the kernel is estimated too.

    With the bread in blocks of the perturbation (1) and the kernel (2), and signs that make :math:`A_{11}` positive,
    the smallest eigenvalue of :math:`A_{11} - A_{12} A_{22}^- A_{21}` relative to :math:`A_{11}`.

    Parameters
    ----------
    bread : Tensor of shape (p, p)
    perturbation : Tensor of bool, shape (p,)
        Whether a parameter belongs to the perturbation.

    Returns
    -------
    share : float
        One if the kernel is orthogonal to the perturbation, zero if a change of the kernel mimics the perturbation.
    direction : Tensor of shape (p,)
        The combination of perturbation parameters of that share, with the change of the kernel that mimics it.
    """
    own, other = perturbation, ~perturbation
    symmetric = -(bread + bread.mT) / 2
    within, across = symmetric[own][:, own], symmetric[other][:, own]
    mimic = -pseudo_inverse(symmetric[other][:, other])[0] @ across
    values, vectors = torch.linalg.eigh(within)
    kept = values > _NULL * values[-1]
    white = vectors[:, kept] / values[kept].sqrt()
    left, axes = torch.linalg.eigh(white.mT @ (within + across.mT @ mimic) @ white)
    direction = torch.zeros(len(bread)).to(bread)
    direction[own] = white @ axes[:, 0]
    direction[other] = mimic @ white @ axes[:, 0]
    return float(left[0].clamp(0, 1)), direction
