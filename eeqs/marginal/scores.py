r"""Surrogate losses of a marginal model :math:`q(y) = E_z\, p(y \mid z)`, one `Score` each.

A surrogate maps the log-probabilities of K draws, :math:`l_k(v) = \log p_k(v)`, to one loss an observation. Its
negative gradient in the live copy of l, at frozen = live, is the estimating function :math:`\psi`. Both copies are
tensors of shape (K, n, V), and nothing here calls ``detach()``: the bread differentiates the frozen copy too. To
train by stochastic gradients, pass ``frozen = live.detach()``, as `eeqs.marginal.Marginal.loss` does.

Draws come in groups that are independent of each other (`eeqs.marginal.draws`). Where a group has several, its entry
is the log of their mean probability, so K counts groups below. What must not share a draw, a residual and its
instrument, comes from different groups.

Log-probabilities must be finite. A softmax returns finite ones unless its logits overflow; a class of exactly zero
probability (-inf) turns the loss of its observation into NaN, which the engine reports.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from eeqs.marginal.crps import energy_loss
from eeqs.marginal.draws import Draws
from eeqs.marginal.layout import indicator, split_draws, take_response

__all__ = [
    "Score",
    "SurrogateLoss",
    "cross_fitted",
    "energy",
    "exact",
    "plug_in",
    "quadratic",
    "single_draw",
    "two_sample",
]

SurrogateLoss: TypeAlias = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Score:
    r"""A surrogate loss and what is claimed of the estimating function it defines.

    Attributes
    ----------
    name : str
    loss : callable
        ``loss(live, frozen, y, log_weight) -> (n,)`` with live and frozen of shape (K, n, V), y (n,) of class
        indices (long) and log_weight (K,), the logarithms of the weights of the K groups or nodes:
        :math:`-\log K` each for draws. Observation i depends on ``[:, i]`` only.
    formula : str
        The loss of one observation; "sg" marks the frozen copy.
    unbiased : bool
        Whether the mean of psi is zero at the truth for every design of draws the score takes.
    min_groups : int
        Fewest independent groups of draws for which the loss is defined.
    max_groups : int or None
        Most of them; None for any number.
    pools : bool
        Whether the draws of a group enter by the log of their mean probability. If not, every draw has its own entry.
    every_class : bool
        Whether the loss reads the probabilities of all classes, and not those of the response alone.
    simulates : bool
        Whether the loss sees simulated responses (K, n) in place of log-probabilities, and y as it is.
    nodes : int or None
        Quadrature nodes a latent dimension; None for a score that uses random draws.
    """

    name: str
    loss: SurrogateLoss
    formula: str
    unbiased: bool
    min_groups: int = 1
    max_groups: int | None = None
    pools: bool = True
    every_class: bool = False
    simulates: bool = False
    nodes: int | None = None

    def entries(self, draws: Draws) -> int:
        """Count the weights the loss takes for a design of draws: its groups, or its draws if it does not pool."""
        return draws.groups if self.pools else len(draws)

    def check_draws(self, draws: Draws | None) -> None:
        """Raise ValueError unless this score can be computed from draws of this design."""
        if self.nodes is not None:
            if draws is not None:
                raise ValueError(f"{self.name} integrates by quadrature; leave out the draws (got {draws}).")
            return
        wanted = f"{self.min_groups}" if self.max_groups == self.min_groups else f"{self.min_groups} or more"
        if draws is None:
            raise ValueError(f"{self.name} needs draws, {wanted} independent groups of them; pass draws=.")
        if not self.min_groups <= draws.groups <= (self.max_groups or draws.groups):
            raise ValueError(
                f"{self.name} needs {wanted} independent groups of draws, got {draws.groups} ({draws}); set the groups "
                f"of the design, as in sobol({2 * self.min_groups}, groups={self.min_groups})."
            )


def _log_mixture_loss(live: Tensor, _frozen: Tensor, y: Tensor, log_weight: Tensor) -> Tensor:
    return -(take_response(live, y) + log_weight[:, None]).logsumexp(dim=0)


def _mean_log_loss(live: Tensor, _frozen: Tensor, y: Tensor, log_weight: Tensor) -> Tensor:
    return -(log_weight.exp()[:, None] * take_response(live, y)).sum(dim=0)


def _cross_fitted_loss(live: Tensor, frozen: Tensor, y: Tensor, _log_weight: Tensor) -> Tensor:
    others = [total - math.log(live.shape[0] - 1) for total in _leave_one_out(split_draws(live), _logaddexp)]
    own = [log_p.exp() for log_p in split_draws(frozen)]
    return _residual_times_instrument(y, own, others)


def _quadratic_loss(live: Tensor, frozen: Tensor, y: Tensor, _log_weight: Tensor) -> Tensor:
    frozen_p = [log_p.exp() for log_p in split_draws(frozen)]
    others = [total / (live.shape[0] - 1) for total in _leave_one_out(frozen_p, torch.add)]
    own = [log_p.exp() for log_p in split_draws(live)]
    return _residual_times_instrument(y, others, own)


def _residual_times_instrument(y: Tensor, fitted: list[Tensor], instrument: list[Tensor]) -> Tensor:
    """-(1/K) sum_k sum_v (1{y = v} - fitted_k(v)) instrument_k(v): K entries (n, V) each, to (n,)."""
    hit = indicator(y, instrument[0])
    total = sum(((hit - p) * a for p, a in zip(fitted, instrument, strict=True)), torch.zeros_like(hit))
    return -total.sum(dim=-1) / len(fitted)


def _leave_one_out(parts: list[Tensor], combine: Callable[[Tensor, Tensor], Tensor]) -> list[Tensor]:
    """Combine all parts but the k-th, for every k, by a prefix and a suffix scan: O(K), no subtraction."""
    before = list(accumulate(parts[:-1], combine))
    after = list(accumulate(parts[:0:-1], combine))[::-1]
    return [after[0], *map(combine, before[:-1], after[1:]), before[-1]]


def _logaddexp(a: Tensor, b: Tensor) -> Tensor:
    # torch.logaddexp has NaN second derivatives once exp(|a - b|) overflows; those of softplus stay finite.
    # Beyond 40, log(1 + exp(x)) is x to the last bit in float64.
    return a + functional.softplus(b - a, threshold=40.0)


single_draw = Score(
    "single_draw",
    _mean_log_loss,
    r"-\frac1K \sum_k l_k(y)",
    unbiased=False,
    pools=False,
)
"""Mean log-loss over perturbed inputs, that is noise augmentation. Biased by the Jensen gap
:math:`\\log E\\, p - E \\log p`, which a learnable scale narrows by
shrinking, in many kernels to zero (cf. Jain et al. 2024)."""

plug_in = Score(
    "plug_in",
    _log_mixture_loss,
    r"-\log \frac1K \sum_k p_k(y)",
    unbiased=False,
)
"""Log of the simulated mixture, the importance-weighted bound of Burda et al. (2016); bias of order 1/K."""

quadratic = Score(
    "quadratic",
    _quadratic_loss,
    r"-\frac{1}{K(K-1)} \sum_{j \ne k} \sum_v (1\{y=v\} - \mathrm{sg}\, p_j(v))\, p_k(v)",
    unbiased=True,
    min_groups=2,
    every_class=True,
)
"""Half the gradient of the Brier score of q, unbiased at every parameter (Gneiting & Raftery 2007)."""

cross_fitted = Score(
    "cross_fitted",
    _cross_fitted_loss,
    r"-\frac1K \sum_k \sum_v (1\{y=v\} - \mathrm{sg}\, p_k(v)) \log \hat q_{-k}(v),"
    r"\quad \hat q_{-k} = \frac{1}{K-1} \sum_{j \ne k} p_j",
    unbiased=True,
    min_groups=2,
    every_class=True,
)
r"""Residual of one draw times the score of the other draws. Given these the residual has mean zero at the truth,
so the product does for every K >= 2; as K grows the instrument tends to the efficient one, grad log q (method of
simulated moments, McFadden 1989). With K = 2 it says almost nothing about a noise scale: use K >= 4. It is not the
gradient of a loss: solve for its root, and monitor the held-out log-score rather than the surrogate."""

two_sample = replace(
    cross_fitted,
    name="two_sample",
    max_groups=2,
    formula=r"-\frac12 \sum_{g \ne h} \sum_v (1\{y=v\} - \mathrm{sg}\, \bar p_g(v)) \log \bar p_h(v),"
    r"\quad \bar p_g = \frac1m \sum_{k \in g} p_k",
)
r"""`cross_fitted` on two groups: the residual from one, the instrument from the other, then swapped. Draws inside a
group may depend on each other, and averages over antithetic or quasi-Monte Carlo draws make both factors less noisy."""


energy = Score(
    "energy",
    lambda live, _frozen, y, log_weight: energy_loss(live, y, live.shape[0] // log_weight.shape[0]),
    r"\frac1K \sum_k |y - y_k| - \frac{1}{2 K (K - m)} \sum_{g \ne h} \sum_{j \in g, k \in h} |y_j - y_k|",
    unbiased=True,
    min_groups=2,
    simulates=True,
)
r"""Energy score of simulated responses :math:`y_k`, for a continuous response; unbiased for its gradient at every
parameter (Gneiting & Raftery 2007), and needs no density. Its psi jumps, so its root and bread are smoothed."""


def exact(nodes: int = 16) -> Score:
    r"""Log-likelihood of the mixture by Gauss-Hermite quadrature, for up to three latent dimensions.

    Parameters
    ----------
    nodes : int
        Nodes a latent dimension. The integrand is smooth, but sharp when the perturbation is large against the
        width of a class boundary: raise ``nodes`` until the estimate stops moving.

    Returns
    -------
    Score
        :math:`-\log \sum_m w_m\, p(y \mid z_m)`, the score equation of maximum likelihood.

    Raises
    ------
    ValueError
        If ``nodes`` is not positive.
    """
    if nodes < 1:
        raise ValueError(f"nodes is {nodes}; pass at least one quadrature node a dimension.")
    return Score("exact", _log_mixture_loss, r"-\log \sum_m w_m p_m(y)", unbiased=True, nodes=nodes)
