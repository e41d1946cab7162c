r"""Linear-index structure: residuals times designs, whose Jacobian is one matrix product.

Most regressions read theta through m linear indices only, :math:`\eta_{ia} = x_{ia}^\top \theta_a`, and multiply m
residuals by instruments (the designs themselves, unless said):

.. math:: \psi_i(\theta) = \big( r_{i1}(\eta_i)\, z_{i1},\ \dots,\ r_{im}(\eta_i)\, z_{im} \big), \qquad
          \sum_i \frac{\partial \psi_{ia}}{\partial \theta_b}
          = Z_a^\top \mathrm{diag}\Big(\frac{\partial r_{ia}}{\partial \eta_{ib}}\Big) X_b .

The derivatives of the residuals are m passes over numbers (n,), whatever the length of theta.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

__all__ = ["Indices", "LinearIndex", "Slopes", "weighted_products"]

Indices: TypeAlias = tuple[Tensor, ...]
Slopes: TypeAlias = tuple[tuple[Tensor | None, ...], ...]


@dataclass(frozen=True)
class LinearIndex:
    """Residuals, designs and instruments of an estimating function.

    Attributes
    ----------
    residuals : callable
        ``residuals(indices, prepared) -> m tensors (n,)`` for the m indices (n,).
    designs : callable
        ``designs(prepared) -> m matrices (n, p_a)``; theta is the concatenation of its m parts.
    instruments : callable or None
        ``instruments(prepared) -> m matrices (n, q_a)``; None for the designs.
    slopes : callable or None
        ``slopes(indices, prepared) -> m rows of m tensors (n,)``, entry (a, b) the derivative of residual a along
        index b; None for automatic differentiation. A derivative that is zero throughout may be None.
    """

    residuals: Callable[[Indices, Any], Indices]
    designs: Callable[[Any], Indices]
    instruments: Callable[[Any], Indices] | None = None
    slopes: Callable[[Indices, Any], Slopes] | None = None

    def matrices(self, data: Any) -> tuple[Indices, Indices]:
        """Designs and instruments."""
        designs = self.designs(data)
        return designs, designs if self.instruments is None else self.instruments(data)

    def psi(self, theta: Tensor, data: Any) -> Tensor:
        """Psi of every observation (n, q)."""
        instruments = self.matrices(data)[1]
        residuals = self.residuals(self.indices(theta, data), data)
        parts = [r[:, None] * z for r, z in zip(residuals, instruments, strict=True)]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def indices(self, theta: Tensor, data: Any) -> Indices:
        """Compute the m linear indices (n,)."""
        designs = self.designs(data)
        if len(designs) == 1:
            return (designs[0] @ theta,)
        parts = theta.split([design.shape[-1] for design in designs])
        return tuple(design @ part for design, part in zip(designs, parts, strict=True))

    def evaluate(self, theta: Tensor, data: Any) -> tuple[Indices, Slopes]:
        """Residuals and their slopes along the indices, sharing one pass."""
        index = self.indices(theta, data)
        if self.slopes is not None:
            return self.residuals(index, data), self.slopes(index, data)
        # Row i of a residual depends on row i of the indices, so the gradient of its sum is the row-wise derivative:
        # m backward passes, which cost a fraction of as many forward-mode ones.
        residuals, pull = torch.func.vjp(lambda *eta: tuple(self.residuals(eta, data)), *index)[:2]
        ones, zeros = torch.ones_like(index[0]), torch.zeros_like(index[0])
        count = len(residuals)
        return residuals, tuple(pull(tuple(ones if c == a else zeros for c in range(count))) for a in range(count))

    def mean_jacobian(self, theta: Tensor, data: Any) -> Tensor:
        """Mean over observations of d psi / d theta (q, p)."""
        designs, instruments = self.matrices(data)
        return weighted_products(designs, instruments, self.evaluate(theta, data)[1]) / designs[0].shape[0]


def weighted_products(designs: Indices, instruments: Indices, slopes: Slopes, counts: Tensor | None = None) -> Tensor:
    """Blocks :math:`Z_a^T diag(slope_{ab}) X_b` assembled to (q, p), with every row times its count."""
    rows = []
    for z, along in zip(instruments, slopes, strict=True):
        blocks = []
        for slope, x in zip(along, designs, strict=True):
            if slope is None:
                blocks.append(z.new_zeros(z.shape[-1], x.shape[-1]))
            else:
                blocks.append(z.mT @ ((slope if counts is None else counts * slope)[:, None] * x))
        rows.append(blocks[0] if len(blocks) == 1 else torch.cat(blocks, dim=1))
    return rows[0] if len(rows) == 1 else torch.cat(rows, dim=0)
