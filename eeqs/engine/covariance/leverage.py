r"""Leverage: what an observation, or a cluster, contributes to the bread.

.. math:: H_i = \frac1n \frac{\partial \psi_i}{\partial \theta} A^{-1}, \qquad \sum_i H_i = I .

In least squares :math:`(I - H_i)^{-1} \psi_i = \psi_i / (1 - h_i)` with the usual :math:`h_i`. A psi of m linear
indices has :math:`\psi_i = Z_i^\top r_i` and :math:`\partial \psi_i / \partial \theta = Z_i^\top S_i X_i`, so that for
any analytic function f

.. math:: f(H_i)\, \psi_i = Z_i^\top f(S_i K_i)\, r_i, \qquad K_i = X_i A^{-1} Z_i^\top / n,

and only an (m, m) matrix is needed for every observation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from eeqs.engine.covariance.root import Root
from eeqs.engine.derivative import directional
from eeqs.engine.errors import DataError, PsiError
from eeqs.engine.evaluate import Rows
from eeqs.engine.linalg import equilibrate, invert
from eeqs.engine.linear_index import LinearIndex
from eeqs.engine.tree import map_tree

__all__ = ["adjusted_psi", "inverse_power", "leverages", "row_jacobians"]

# Numbers in the (b, p, p) Jacobians of a block of rows: 8 MiB.
_JACOBIAN_NUMBERS = 2**20
# Distance from one at which a leverage is one: the observation alone identifies a parameter.
_ONE = 1e-10
# Denman-Beavers steps double the digits; a leverage of 1 - 1e-10 takes about forty.
_MOST_STEPS = 60


def adjusted_psi(root: Root, power: float) -> Iterator[tuple[Tensor, Rows]]:
    """Blocks of :math:`(I - H_i)^{-power} psi_i` (b, p).

    Raises
    ------
    DataError
        If the leverage of a row is one, naming the row.
    PsiError
        If psi is a step function.
    """
    linear, seen = root.problem.psi.linear, 0
    inverse = invert(root.bread, root.names) / root.n
    if linear is not None and root.problem.psi.penalty is None:
        for rows in root.problem.blocks():
            yield _through_indices(linear, root.theta, rows, inverse, power, _row_name(seen)), rows
            seen += rows.n
        return
    for values, jacobians, rows in row_jacobians(root):
        matrices, scale = leverages(root, jacobians)
        powers = inverse_power(matrices, power, _row_name(seen), rows.counts)
        yield (powers @ (scale * values)[:, :, None])[:, :, 0] / scale, rows
        seen += rows.n


def leverages(root: Root, jacobians: Tensor) -> tuple[Tensor, Tensor]:
    """Leverage matrices of sums of Jacobians (k, p, p), in units of psi that level the bread, and those units (p,)."""
    scale = equilibrate(root.bread)[1]
    inverse = invert(root.bread, root.names) / root.n
    return (scale[:, None] * jacobians) @ (inverse / scale), scale


def row_jacobians(root: Root, groups: tuple[Any, ...] = ()) -> Iterator[tuple[Tensor, Tensor, Rows]]:
    """Blocks of psi (b, p) and of its Jacobian at every row (b, p, p).

    Raises
    ------
    PsiError
        If psi is a step function, or its mean Jacobian is not the mean of its derivatives.
    """
    psi, theta = root.problem.psi, root.theta
    if psi.root is not None:
        raise PsiError("leverages need derivatives, and this psi is a step function; use HC0, HC1, CR1 or Bootstrap.")
    total = torch.zeros_like(root.bread)
    for rows in root.problem.blocks(groups):
        for part in _slices(rows, theta.shape[0]) if psi.separable else [rows]:
            if psi.linear is not None and psi.penalty is None:
                values, jacobians = _linear_jacobians(psi.linear, theta, part.data)
            else:
                values, derivative = directional(lambda b: root.problem.rows_of_psi(b, part), theta)  # noqa: B023
                jacobians = derivative.permute(1, 2, 0)
            total += jacobians.sum(0) if part.counts is None else torch.tensordot(part.counts, jacobians, 1)
            yield values, jacobians, part
    size = root.bread.abs().amax(0)
    if not bool(((total / root.n - root.bread).abs() <= 1e-6 * size).all()):
        raise PsiError("the Jacobian of psi is not the mean of its derivatives, so a row has no leverage; use HC1.")


def inverse_power(matrices: Tensor, power: float, name: Callable[[int], str], counts: Tensor | None = None) -> Tensor:
    """Power :math:`(I - H)^{-power}` of (k, m, m) leverages, for a power of 1 or 1/2.

    Raises
    ------
    DataError
        If I - H is singular or has a negative eigenvalue, naming the member by ``name(position)``.
    """
    if counts is not None:  # a row that stands for nobody has no say, whatever its leverage
        matrices = torch.where(counts[:, None, None] > 0, matrices, 0.0)
    largest = _largest_real_eigenvalue(matrices)
    if bool((largest >= 1 - _ONE).any()):
        position = int(largest.argmax())
        raise DataError(
            f"{name(position)} has leverage {float(largest[position]):.6g}: a parameter is identified by it alone, and "
            "what the fit would be without it is unknown. Drop it with its parameter, or use HC0, HC1 or CR1."
        )
    remainder = torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device) - matrices
    if matrices.shape[-1] == 1:
        return remainder**-power
    return torch.linalg.inv(remainder) if power == 1 else _inverse_root(remainder)


def _largest_real_eigenvalue(matrices: Tensor) -> Tensor:
    """Largest real eigenvalue (k,), exact where it is at least 0.9 and otherwise any number below."""
    if matrices.shape[-1] == 1:
        return matrices[:, 0, 0]
    largest = torch.zeros(len(matrices), dtype=matrices.dtype, device=matrices.device)
    high = torch.linalg.matrix_norm(matrices) >= 0.9  # no eigenvalue exceeds the norm
    if bool(high.any()):
        values = torch.linalg.eigvals(matrices[high])
        largest[high] = torch.where(values.imag.abs() <= 1e-8, values.real, -torch.inf).amax(-1)
    return largest


def _inverse_root(matrices: Tensor) -> Tensor:
    """Principal inverse square roots (k, m, m), by the iteration of Denman & Beavers (1976)."""
    root, inverse = matrices, torch.eye(matrices.shape[-1], dtype=matrices.dtype).to(matrices).expand_as(matrices)
    for _ in range(_MOST_STEPS):
        previous = inverse
        root, inverse = (root + torch.linalg.inv(inverse)) / 2, (inverse + torch.linalg.inv(root)) / 2
        if bool((inverse - previous).abs().amax() <= 1e-15 * inverse.abs().amax()):
            break
    return inverse


def _through_indices(
    linear: LinearIndex, theta: Tensor, rows: Rows, inverse: Tensor, power: float, name: Callable[[int], str]
) -> Tensor:
    """Adjust the residuals of m linear indices (b, m), and multiply them by their instruments."""
    designs, instruments = linear.matrices(rows.data)
    residuals, slopes = linear.evaluate(theta, rows.data)
    blocks = [part.split([z.shape[1] for z in instruments], 1) for part in inverse.split([x.shape[1] for x in designs])]
    distances = torch.stack(
        [
            torch.stack([((x @ block) * z).sum(1) for block, z in zip(row, instruments, strict=True)], 1)
            for x, row in zip(designs, blocks, strict=True)
        ],
        dim=1,
    )
    zero = torch.zeros_like(residuals[0])
    sloped = torch.stack([torch.stack([zero if s is None else s for s in along], 1) for along in slopes], 1)
    powers = inverse_power(sloped @ distances, power, name, rows.counts)
    adjusted = (powers @ torch.stack(residuals, 1)[:, :, None])[:, :, 0]
    return torch.cat([adjusted[:, a, None] * z for a, z in enumerate(instruments)], 1)


def _linear_jacobians(linear: LinearIndex, theta: Tensor, data: Any) -> tuple[Tensor, Tensor]:
    """Psi (b, p) and its Jacobians (b, p, p) from residuals and slopes."""
    designs, instruments = linear.matrices(data)
    residuals, slopes = linear.evaluate(theta, data)

    def block(slope: Tensor | None, z: Tensor, x: Tensor) -> Tensor:
        if slope is None:
            return z.new_zeros(len(z), z.shape[1], x.shape[1])
        return (slope[:, None] * z)[:, :, None] * x[:, None, :]

    blocks = [
        torch.cat([block(slope, z, x) for slope, x in zip(along, designs, strict=True)], dim=2)
        for z, along in zip(instruments, slopes, strict=True)
    ]
    return torch.cat([r[:, None] * z for r, z in zip(residuals, instruments, strict=True)], 1), torch.cat(blocks, 1)


def _slices(rows: Rows, p: int) -> Iterator[Rows]:
    """Parts of a block whose Jacobians fit the budget."""
    size = max(1, _JACOBIAN_NUMBERS // p**2)
    for start in range(0, rows.n, size):
        kept = slice(start, min(start + size, rows.n))
        counts = None if rows.counts is None else rows.counts[kept]
        data = map_tree(lambda leaf: leaf[kept], rows.data)  # noqa: B023 - called before the loop moves on
        yield Rows(data, kept.stop - start, counts, tuple(code[kept] for code in rows.codes))


def _row_name(seen: int) -> Callable[[int], str]:
    return lambda position: f"row {seen + position}"
