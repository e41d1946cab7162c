r"""The score of a noise variance where there is no noise.

The law depends on a scale :math:`\sigma` through the variance :math:`v = \sigma^2` only, and zero is the end of its
range: the score in :math:`\sigma` vanishes there. The score in v stays regular,

.. math:: s = \lim_{\sigma \to 0} \frac{1}{2 \sigma} \frac{\partial \log q}{\partial \sigma}
            = \frac{1}{2\, p(y \mid x)} \frac{\partial^2}{\partial \sigma^2} E_z\, p(y \mid g(x, z; \sigma))
              \Big|_{\sigma = 0},

for Gaussian noise half the trace of the Hessian of p in the embedding, over p. Where the perturbation is linear in
:math:`\sigma z` this is the mean of a quadratic form in z: 2q points with the mean and variance of z give it exactly.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

from eeqs.engine.derivative import directional
from eeqs.engine.door import as_problem
from eeqs.engine.elementary import Elementary
from eeqs.engine.errors import SolverError, Status
from eeqs.engine.linalg import pseudo_inverse
from eeqs.engine.psi import EstimatingFunction
from eeqs.engine.solve import solve
from eeqs.marginal.layout import take_response
from eeqs.marginal.perturbations import Identity
from eeqs.marginal.reading import entries
from eeqs.marginal.scores import exact

if TYPE_CHECKING:
    from eeqs.marginal.model import Marginal

__all__ = ["projected_scores", "require_scale"]

NullScore: TypeAlias = Callable[[Tensor, Any], Tensor]

# Mean of a latent entry that is zero up to rounding.
_ROUNDING = 1e-8


def require_scale(model: Marginal) -> int:
    """Count the scales; raise ValueError unless they are all that is learnable in the perturbation."""
    part = model.perturbation
    found = [name for name, value in part.named_parameters() if value.requires_grad]
    if found != ["scale"]:
        raise ValueError(
            f"the learnable parameters of {type(part).__name__} are {found or 'none'}; this inference is on "
            '"scale" alone, the standard deviation itself, as in Gaussian(dim, scale=0.1).'
        )
    points, log_weight = part.latent_law.quadrature(8, 1)
    if abs(float(log_weight.exp() @ points[:, 0])) > _ROUNDING:
        raise ValueError(
            f"the latent law {part.latent_law.name} has a mean other than zero, so the scale shifts the embedding and "
            "its score does not vanish at zero; use eeqs.score_test."
        )
    return int(part.scale.numel())


def projected_scores(model: Marginal, data: Mapping[str, Any]) -> Tensor:
    """Scores (n, m) of the variances at zero, less their projection on the scores of the kernel at its estimate.

    Parameters
    ----------
    model : Marginal
    data : mapping
        Columns ``x`` (n, d) and ``y`` (n,).
    """
    m = require_scale(model)
    fixed = copy.deepcopy(model).to(torch.float64)
    without = type(model)(Identity(fixed.perturbation.dim), fixed.kernel)
    score = _variance_score(fixed, m)
    if not without.names:
        problem = as_problem(replace(fixed.psi(exact(1)), psi=score, names=()), data)
        return problem.values(torch.zeros(0, dtype=torch.float64, device=problem.device))
    inner = without.psi(exact(1))
    solution = solve(inner, data, minimum_norm=True)
    if solution.status is not Status.CONVERGED:
        raise SolverError(f"the kernel without noise was not estimated: {solution.status.text}")
    problem = as_problem(_stacked(score, inner), data)
    values, bread = problem.values(solution.theta), problem.jacobian(solution.theta)
    return values[:, :m] - values[:, m:] @ (bread[:m] @ pseudo_inverse(bread[m:])[0]).mT


def _stacked(score: NullScore, inner: EstimatingFunction) -> EstimatingFunction:
    """Scores of variances and of the kernel side by side, as functions of the parameters of the kernel."""

    def psi(theta: Tensor, data: Any) -> Tensor:
        return torch.cat([score(theta, data), inner.psi(theta, data)], dim=1)

    return replace(inner, psi=psi)


def _variance_score(model: Marginal, m: int) -> NullScore:
    """``score(theta (k,), prepared) -> (n, m)`` at parameters of the kernel."""
    q, law = model.perturbation.latent_dim, model.perturbation.latent_law
    points, log_weight = law.quadrature(8, 1)
    spread = (log_weight.exp() @ points[:, 0].square()).sqrt()
    half = (q**0.5 * spread) * torch.eye(q, dtype=torch.float64)

    def score(theta: Tensor, data: Any) -> Tensor:
        x, index, y = data
        z = torch.cat([half, -half]).to(x)[None]

        def log_p(scale: Tensor) -> Tensor:
            read = entries(model, exact(1), 1, x, y, z, torch.cat([scale, theta]))
            return take_response(read, index)

        with Elementary():
            slope, curvature = directional(lambda scale: directional(log_p, scale)[1], theta.new_zeros(m))
        own = torch.arange(m, device=x.device)
        # The second derivative of p over p, from those of log p: (2q, n) for every scale.
        return (curvature[own, own] + slope.square()).mean(dim=1).mT / 2

    return score
