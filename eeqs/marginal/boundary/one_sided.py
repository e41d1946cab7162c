"""One-sided score test that there is no noise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from scipy import special

from eeqs.engine.inference import HypothesisTest
from eeqs.marginal.boundary.chi_bar import chi_bar_tail, cone_statistic
from eeqs.marginal.boundary.null_score import projected_scores

if TYPE_CHECKING:
    from eeqs.marginal.model import Marginal

__all__ = ["scale_test"]


def scale_test(model: Marginal, data: Mapping[str, Any], *, prefix: str = "x", response: str = "y") -> HypothesisTest:
    r"""Test that all noise scales are zero, against some being positive.

    With :math:`s_i` (m,) the scores of the variances at zero and :math:`u_i` those of the kernel at its
    maximum-likelihood estimate without noise,

    .. math:: \tilde s_i = s_i - A_{su} A_{uu}^- u_i, \qquad T = n^{-1/2} \sum_i \tilde s_i, \qquad
              \Omega = \frac1n \sum_i \tilde s_i \tilde s_i^\top.

    One scale is tested by the upper normal tail of :math:`T / \Omega^{1/2}`. Several are tested by
    :math:`\max_{b \ge 0} (2 b^\top T - b^\top \Omega b)`, a mixture of chi-square variables with 0 to m degrees of
    freedom.

    Parameters
    ----------
    model : Marginal
        With a perturbation whose learnable parameter is ``scale``, such as ``Gaussian(dim, scale=0.1)``; its value is
        not used. Learnable parameters of the kernel are nuisances, estimated from their current values on.
    data : mapping
        The columns ``prefix`` (n, d) and ``response`` (n,). Draws are not needed.
    prefix, response : str
        Names of the columns.

    Returns
    -------
    HypothesisTest
        A small p-value is evidence of noise. Data smoother than the kernel explains give a negative score, whose
        p-value is above one half.

    Raises
    ------
    ValueError
        If the perturbation has other learnable parameters, or a latent law with a mean; for more than eight scales.
    DataError, SolverError
        On bad data, or if the kernel could not be estimated.

    References
    ----------
    Lin (1997) Biometrika 84 for variance components; Silvapulle & Silvapulle (1995) JASA 90 for one-sided score tests
    from estimating functions; Boos (1992) The American Statistician 46 for the projection.
    """
    values = projected_scores(model, {"x": data[prefix], "y": data[response]}).numpy(force=True)
    n, m = values.shape
    score, omega = values.sum(axis=0) / n**0.5, values.T @ values / n
    if m == 1:
        z = float(score[0] / omega[0, 0] ** 0.5)
        return HypothesisTest("one-sided score, normal", z, 1, float(special.ndtr(-z)))
    statistic = cone_statistic(score, omega)
    return HypothesisTest(f"one-sided score, chi-bar-square({m})", statistic, m, chi_bar_tail(statistic, omega))
