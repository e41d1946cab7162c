r"""Covariance of correlated noise from an over-parameterised factor.

With :math:`\Sigma = L L^\top` the factor L (d, r) enters the law through :math:`\Sigma` only, so the equations say
nothing along the tangents :math:`L S`, S skew, of its rotations. A sample with quadrature or draws breaks this symmetry
by its own error: the bread is then nearly singular, not singular, and no rank tolerance finds the directions. They are
known, however. Here the equations are solved on the plane through the start that is orthogonal to them, and whatever is
reported must not change along them at the estimate.

First-order inference also needs the set of matrices of rank min(d, r) to be smooth around :math:`\Sigma`. It is not
where the true rank is smaller: :math:`\Sigma` then lies on the boundary of what the factor can reach, its estimate is
not normal, and the factor converges at rate :math:`n^{-1/4}` (Chen 1995, Annals of Statistics 23, for over-fitted
mixtures). Such a fit is refused: take fewer columns, or test directions with `eeqs.marginal.boundary.scale_test`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from torch import Tensor

from eeqs.engine.covariance import CovarianceKind
from eeqs.engine.errors import NotEstimableError, SolverError
from eeqs.engine.inference import DerivedEstimate, Estimate, estimate
from eeqs.engine.inference.delta import by_names, linearise
from eeqs.engine.inference.estimable import require_estimable
from eeqs.engine.psi import EstimatingFunction
from eeqs.engine.tree import leaves_of
from eeqs.marginal.draws import Draws
from eeqs.marginal.parameters import learnable, unflatten
from eeqs.marginal.scores import Score

if TYPE_CHECKING:
    from eeqs.marginal.model import Marginal

__all__ = ["NoiseCovariance", "noise_covariance"]

# Standard errors by which the smallest eigenvalue that the factor allows must differ from zero.
_FAR = 3.0
# Relative singular value of d Sigma / d L, and eigenvalue of Sigma, that count as zero.
_NULL = 1e-9


@dataclass(frozen=True)
class NoiseCovariance:
    r"""A fit of a model with factored noise, reported through what it identifies.

    Attributes
    ----------
    model : Marginal
        At the estimate.
    sigma : DataFrame of shape (d, d)
        :math:`\hat\Sigma`.
    entries : DerivedEstimate
        Its entries ``sigma[j,k]``, j >= k, with standard errors and intervals.
    fit : Estimate
        On the plane; its parameters are coordinates without a meaning of their own.
    """

    model: Marginal
    sigma: pd.DataFrame
    entries: DerivedEstimate
    fit: Estimate
    _on_plane: Callable[[Tensor], Tensor]

    def delta(self, function: Callable[[dict[str, Tensor]], Any]) -> DerivedEstimate:
        """Estimate functions of the parameters by name, such as ``lambda b: b["factor[0,0]"] ** 2 + ...``.

        Raises
        ------
        NotEstimableError
            If a function changes when the factor is rotated; the message names the entries.
        """
        names = self.model.names
        named = by_names(function, names)
        across = _across_rotations(self.model, self.model.theta)
        require_estimable(across @ across.mT, linearise(named, self.model.theta).gradient, names)
        return self.fit.delta(lambda c: named(self._on_plane(c)))


def noise_covariance(
    model: Marginal,
    score: Score,
    data: Mapping[str, Any],
    *,
    draws: int | Draws | None = None,
    cov: str | CovarianceKind = "HC0",
) -> NoiseCovariance:
    r"""Estimate a model with `LowRank` noise and report its covariance.

    Parameters
    ----------
    model : Marginal
        With `LowRank` noise; its values are the start. Learnable parameters of the kernel are estimated
        too, if need be up to what they identify (a softmax has a shift common to all classes).
    score, data, draws
        As in `Marginal.psi`, with columns ``x``, ``y`` and ``z``.
    cov : str or CovarianceKind
        Assumption on the meat.

    Returns
    -------
    NoiseCovariance

    Raises
    ------
    TypeError
        If the noise has no learnable ``factor``.
    NotEstimableError
        If the smallest eigenvalue that the factor allows is within three standard errors of zero, where intervals of
        first order do not cover.
    SolverError, DataError
        If the equations were not solved, as may happen for the same reason, or on bad data.
    """
    if "perturbation.factor" not in learnable(model):
        raise TypeError(
            f"{type(model.perturbation).__name__} has no learnable factor; pass a model with LowRank noise."
        )
    origin, plane = model.theta, _across_rotations(model, model.theta)

    def on_plane(c: Tensor) -> Tensor:
        return origin.to(c) + plane.to(c) @ c

    try:
        fit = estimate(_restricted(model.psi(score, draws=draws), on_plane, plane), data, cov=cov, minimum_norm=True)
    except SolverError as error:
        raise SolverError(
            f"{error} The covariance of the noise may have a lower rank than the {model.latent_dim} columns of its "
            "factor allow; take fewer columns, or another start."
        ) from error
    fitted = model.with_theta(on_plane(fit.solution.theta))
    _require_far_from_boundary(fitted, fit, on_plane)
    entries = fit.delta(lambda c: _entries(covariance_at(model, on_plane(c))))
    labels = list(map(str, range(model.perturbation.dim)))
    sigma = covariance_at(model, fitted.theta).numpy(force=True)
    return NoiseCovariance(fitted, pd.DataFrame(sigma, labels, labels), entries, fit, on_plane)


def covariance_at(model: Marginal, theta: Tensor) -> Tensor:
    """Covariance (d, d) of the noise at parameters ``theta`` (p,)."""
    factor = unflatten(model, theta)["perturbation.factor"].double()
    return factor @ factor.mT


def _entries(sigma: Tensor) -> dict[str, Tensor]:
    return {f"sigma[{j},{k}]": sigma[j, k] for j in range(len(sigma)) for k in range(j + 1)}


def _across_rotations(model: Marginal, theta: Tensor) -> Tensor:
    """Orthonormal basis (p, s) of the directions orthogonal to the rotations of the factor at ``theta``."""
    factor = torch.tensor([name.startswith("factor") for name in model.names], device=theta.device)
    slope = torch.func.jacfwd(lambda b: covariance_at(model, b))(theta).flatten(0, 1)
    _, values, right = torch.linalg.svd(slope, full_matrices=False)
    others = torch.eye(len(theta)).to(theta)[~factor]
    return torch.cat([right[values > _NULL * values[0]], others]).mT


def _restricted(psi: EstimatingFunction, on_plane: Callable[[Tensor], Tensor], plane: Tensor) -> EstimatingFunction:
    """Equations and parameters on the plane."""

    def restricted(c: Tensor, data: Any) -> Tensor:
        return psi.psi(on_plane(c), data) @ plane.to(c)

    def start(data: Any) -> Tensor:
        return torch.zeros(plane.shape[1], dtype=torch.float64, device=next(leaves_of(data)).device)

    names = tuple(f"coordinate[{j}]" for j in range(plane.shape[1]))
    return replace(psi, psi=restricted, start=start, names=names, mean_jacobian=None)


def _require_far_from_boundary(fitted: Marginal, fit: Estimate, on_plane: Callable[[Tensor], Tensor]) -> None:
    """Raise unless the eigenvalues that the factor allows are well above zero."""
    values, vectors = torch.linalg.eigh(covariance_at(fitted, fitted.theta))
    last = -min(fitted.perturbation.dim, fitted.latent_dim)
    axis = vectors[:, last]
    slope = torch.func.jacfwd(lambda c: axis @ covariance_at(fitted, on_plane(c)) @ axis)(fit.solution.theta)
    error = float(slope @ fit.covariance @ slope) ** 0.5
    # At a factor of lower rank the slope is zero too, and with it the error.
    if float(values[last]) <= max(_FAR * error, _NULL * float(values[-1])):
        involved = tuple(name for name in fitted.names if name.startswith("factor"))
        raise NotEstimableError(
            f"eigenvalue {-last} of the noise covariance is {float(values[last]):.3g} with standard error {error:.3g}: "
            f"its rank may be lower than {-last}, and at a lower rank first-order intervals do not cover. Take fewer "
            "columns in the factor, or test for noise with scale_test.",
            involved,
        )
