r"""Penalised estimating functions: :math:`\psi_i(\theta) - \lambda\, \partial P(\theta)`.

The gradient of the penalty is subtracted from every row, so that the equation solved is
:math:`\bar\psi(\theta) = \lambda\, \partial P(\theta)` and :math:`\lambda` is a penalty per observation. Rows are
thereby centred at the root, and the sandwich is that of Fu (2003): :math:`A` is the derivative of the penalised mean.
It describes the variance of the penalised estimate, not its bias.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from eeqs.engine.errors import PsiError
from eeqs.engine.psi import EstimatingFunction, PsiLike, as_psi

__all__ = ["bridge", "penalise", "ridge"]


def penalise(psi: PsiLike, gradient: Callable[[Tensor], Tensor]) -> EstimatingFunction:
    """Subtract the gradient of a penalty from every row of psi.

    Parameters
    ----------
    psi : callable or EstimatingFunction
        Smooth in theta.
    gradient : callable
        ``gradient(theta) -> (p,)`` per observation, differentiable in torch operations.

    Raises
    ------
    PsiError
        If psi is a step function of theta, or already has a penalty.
    """
    inner = as_psi(psi)
    if inner.root is not None:
        raise PsiError("a penalty needs a smooth psi, and this one is a step function of theta.")
    if inner.penalty is not None:
        raise PsiError("psi already has a penalty; add the two gradients and penalise once.")
    closed = inner.mean_jacobian

    def penalised(theta: Tensor, data: Any) -> Tensor:
        values = inner.psi(theta, data)
        return values - (gradient(theta) if values.ndim > 1 else gradient(theta)[0])

    def mean_jacobian(theta: Tensor, data: Any) -> Tensor:
        assert closed is not None  # noqa: S101 - used only then
        return closed(theta, data) - torch.func.jacfwd(gradient)(theta)

    return replace(inner, psi=penalised, mean_jacobian=None if closed is None else mean_jacobian, penalty=gradient)


def ridge(
    psi: PsiLike, strength: float | Sequence[float], *, centre: Any = 0.0, free: Sequence[str] = ("Intercept",)
) -> EstimatingFunction:
    r"""Ridge penalty :math:`\frac12 \sum_j \lambda_j (\theta_j - c_j)^2` per observation.

    Parameters
    ----------
    psi : callable or EstimatingFunction
    strength : float or sequence of float
        :math:`\lambda \ge 0`, one for all parameters or one each. In the units of psi over those of theta: standardise
        the columns first where one value is meant for all. scikit-learn's ``Ridge(alpha)`` is ``alpha / n``.
    centre : float or array of shape (p,)
        Where to shrink to.
    free : sequence of str
        Names of parameters that are not penalised when ``strength`` is one number; names that psi lacks are ignored.

    References
    ----------
    Hoerl & Kennard (1970) Technometrics 12.
    """
    weights, distance = _strengths(as_psi(psi), strength, free), _distances(centre)

    def gradient(theta: Tensor) -> Tensor:
        return weights(theta) * distance(theta)

    return penalise(psi, gradient)


def bridge(
    psi: PsiLike,
    strength: float | Sequence[float],
    exponent: float,
    *,
    centre: Any = 0.0,
    free: Sequence[str] = ("Intercept",),
) -> EstimatingFunction:
    r"""Bridge penalty :math:`\sum_j \lambda_j |\theta_j - c_j|^\gamma` per observation, :math:`\gamma > 1`.

    Parameters
    ----------
    psi, strength, centre, free
        As in `ridge`; with exponent 2 it is ``ridge`` of twice the strength.
    exponent : float
        :math:`\gamma > 1`. Between 1 and 2 the derivative of the penalty is infinite at the centre, where no sandwich
        exists; at 1 (the lasso) the equation has no smooth root and is refused.

    Raises
    ------
    ValueError
        If the exponent is 1 or less.

    References
    ----------
    Fu (2003) Biometrics 59.
    """
    if not exponent > 1:
        raise ValueError(
            f"exponent is {exponent}; an estimating equation needs a differentiable penalty, exponent > 1."
        )
    weights, distance = _strengths(as_psi(psi), strength, free), _distances(centre)

    def gradient(theta: Tensor) -> Tensor:
        shifted = distance(theta)
        size = shifted.abs()
        safe = torch.where(size > 0, size, 1.0)  # the power of an exact zero has no derivative to multiply by zero
        return weights(theta) * exponent * torch.where(size > 0, safe ** (exponent - 1) * shifted.sign(), 0.0)

    return penalise(psi, gradient)


def _strengths(psi: EstimatingFunction, strength: Any, free: Sequence[str]) -> Callable[[Tensor], Tensor]:
    """Penalties (p,), once p is known."""
    free = (free,) if isinstance(free, str) else free
    given = torch.as_tensor(strength, dtype=torch.float64)
    if bool((given < 0).any()) or not bool(torch.isfinite(given).all()):
        raise ValueError(f"strength is {strength}; a penalty needs finite values of zero or more.")
    if given.ndim == 0 and psi.names:
        given = torch.tensor([0.0 if name in free else float(given) for name in psi.names], dtype=torch.float64)

    def weights(theta: Tensor) -> Tensor:
        if given.ndim and len(given) != len(theta):
            raise ValueError(f"strength has {len(given)} values and theta {len(theta)}; pass one or one each.")
        return given.to(theta.device)

    return weights


def _distances(centre: Any) -> Callable[[Tensor], Tensor]:
    """Distances (p,) of theta from the centre."""
    target = torch.as_tensor(centre, dtype=torch.float64)
    if not bool(torch.isfinite(target).all()):
        raise ValueError(f"centre is {centre}; pass finite values.")

    def distance(theta: Tensor) -> Tensor:
        if target.ndim and target.shape != theta.shape:
            raise ValueError(
                f"centre has shape {tuple(target.shape)} and theta {tuple(theta.shape)}; pass one or one each."
            )
        return theta - target.to(theta.device)

    return distance
