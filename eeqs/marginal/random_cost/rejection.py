r"""The score as a posterior mean, from exact posterior draws of the latent (Fisher's identity)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from eeqs.engine.derivative import directional
from eeqs.engine.errors import DataError
from eeqs.marginal.random_cost.score import (
    Block,
    RandomCostScore,
    check_observations,
    log_response,
    most_pairs,
    theta_of,
)

if TYPE_CHECKING:
    from eeqs.marginal.model import Marginal

__all__ = ["posterior", "posterior_information"]

_MAX_TRIES = 100_000


def posterior(n_accepted: int = 1, *, max_tries: int = _MAX_TRIES) -> RandomCostScore:
    r"""Mean complete-data score over posterior draws of the latent, by rejection.

    A latent from its law :math:`\nu`, accepted with probability :math:`p(y \mid z)`, is a draw from the posterior
    :math:`\nu(z)\, p(y \mid z) / q(y)`, and by Fisher's identity

    .. math:: \nabla \log q(y) = E[\nabla \log p(y \mid z) \mid y]

    at every parameter. The draws are made at the current parameters, and the loss holds them fixed.

    Parameters
    ----------
    n_accepted : int
        Accepted draws m an observation.
    max_tries : int
        Latents tried for an observation before an error; q(y) well below ``n_accepted / max_tries`` is too rare.

    Returns
    -------
    RandomCostScore
        :math:`-\frac1m \sum_k \log p(y \mid z_k)` over the accepted draws. Its value is no risk: monitor the held-out
        log-score. Tries are made one at a time, then a quarter of those before at once, so the cost exceeds the
        :math:`m / q(y)` that are needed on average by a quarter at most. At the truth it averages V m.

    Raises
    ------
    ValueError
        If a number is not positive, or ``max_tries`` is smaller than ``n_accepted``.

    References
    ----------
    Fisher (1925) Proceedings of the Cambridge Philosophical Society 22; Louis (1982) for the identity in this form;
    von Neumann (1951) for rejection.
    """
    _check_numbers(n_accepted, max_tries)

    def sampler(
        model: Marginal, prefix: Tensor, y: Tensor, generator: torch.Generator, theta: Tensor | None, most: int
    ) -> Iterator[Block]:
        for rows in torch.arange(len(y), device=y.device).split(max(1, most // n_accepted)):
            z, cost = _accept(model, prefix, y, rows, generator, theta, n_accepted, max_tries, most)
            yield Block(rows, z, cost, _complete_data_loss)

    return RandomCostScore("posterior", r"-\frac1m \sum_k \log p(y \mid z_k)", "m / q(y)", sampler)


def posterior_information(
    model: Marginal,
    prefix: Tensor,
    y: Tensor,
    generator: torch.Generator,
    *,
    n_accepted: int = 2,
    max_tries: int = _MAX_TRIES,
    theta: Tensor | None = None,
) -> Tensor:
    r"""Observed information of a sample by Louis' identity, complete information minus missing information.

    .. math:: -\nabla^2 \log q(y) = E[-\nabla^2 \log p(y \mid z) \mid y] - \mathrm{Var}[\nabla \log p(y \mid z) \mid y]

    The derivative of the posterior score at fixed draws is the first part alone, which overstates the information.

    Parameters
    ----------
    model : Marginal
    prefix : Tensor of shape (n, d)
    y : Tensor of shape (n,)
        Classes.
    generator : torch.Generator
    n_accepted : int
        Posterior draws m an observation, at least two for a variance within each.
    max_tries : int
        As for `posterior`.
    theta : Tensor of shape (p,), optional
        The values the model holds by default.

    Returns
    -------
    Tensor of shape (p, p)
        Mean over observations. Its expectation given the data is the exact one for every m; a single value need not
        be positive definite.

    Raises
    ------
    ValueError
        If ``n_accepted`` is below two, and as for `posterior`.

    References
    ----------
    Louis (1982) Journal of the Royal Statistical Society B 44; Orchard & Woodbury (1972), missing information.
    """
    if n_accepted < 2:
        raise ValueError(f"n_accepted is {n_accepted}; a variance within an observation needs two posterior draws.")
    score = posterior(n_accepted, max_tries=max_tries)
    check_observations("posterior_information", model, prefix, y, generator)
    at, y = theta_of(model, prefix, theta), y.long()
    total = at.new_zeros(len(at), len(at))
    for block in score.sampler(model, prefix, y, generator, at, most_pairs(model, len(at))):
        total += _information(model, prefix[block.rows], y[block.rows], block.z, at)
    return (total + total.mT) / (2 * len(y))


def _information(model: Marginal, prefix: Tensor, y: Tensor, z: Tensor, theta: Tensor) -> Tensor:
    """Sum over observations of complete minus missing information."""

    def log_p(b: Tensor) -> Tensor:
        return log_response(model, prefix, y, z, b)

    complete = -torch.func.hessian(lambda b: log_p(b).mean(dim=0).sum())(theta)
    slope = directional(log_p, theta)[1].detach()
    deviation = (slope - slope.mean(dim=1, keepdim=True)).flatten(1)
    missing: Tensor = complete.detach() - deviation @ deviation.mT / (z.shape[1] - 1)
    return missing


def _complete_data_loss(log_p: Tensor) -> Tensor:
    return -log_p.mean(dim=0)


@torch.no_grad()
def _accept(
    model: Marginal,
    prefix: Tensor,
    y: Tensor,
    rows: Tensor,
    generator: torch.Generator,
    theta: Tensor | None,
    wanted: int,
    max_tries: int,
    most: int,
) -> tuple[Tensor, Tensor]:
    """Draw (b, wanted, q) from the posteriors of the observations ``rows`` (b,), and count the tries for each, (b,)."""
    x, classes = prefix[rows], y[rows]
    z = x.new_empty(len(rows), wanted, model.perturbation.latent_dim)
    have, cost = torch.zeros_like(rows), torch.zeros_like(rows)
    log_seen = torch.full(rows.shape, -torch.inf, dtype=torch.float64, device=x.device)
    left, made = torch.arange(len(rows), device=x.device), 0
    while len(left):
        if made == max_tries:
            raise _too_rare(rows[left], have[left], log_seen[left], wanted, max_tries)
        size = max(1, min(made // 4, max_tries - made, most // len(left)))
        tried = model.draw(x[left], size, generator)
        log_p = log_response(model, x[left], classes[left], tried, theta).double().mT
        # In float64 also for a model in float32, whose uniform numbers would accept nothing rarer than 2^-24 rightly.
        hit = torch.rand(log_p.shape, generator=generator, dtype=torch.float64, device=x.device) < log_p.exp()
        place = have[left, None] + hit.cumsum(dim=1) - 1
        i, k = (hit & (place < wanted)).nonzero(as_tuple=True)
        z[left[i], place[i, k]] = tried[i, k]
        have[left] += hit.sum(dim=1)
        log_seen[left] = torch.logaddexp(log_seen[left], log_p.logsumexp(dim=1))
        made += size
        cost[left] = made
        left = left[have[left] < wanted]
    return z, cost


def _too_rare(rows: Tensor, have: Tensor, log_seen: Tensor, wanted: int, max_tries: int) -> DataError:
    """Error that names the rarest of the observations left without their draws."""
    rarest = int(log_seen.argmin())
    log10_q = (float(log_seen[rarest]) - math.log(max_tries)) / math.log(10)
    return DataError(
        f"posterior: {len(rows)} observation(s) have fewer than {wanted} accepted draws after {max_tries} tries. The "
        f"rarest is observation {int(rows[rarest])} with {int(have[rarest])}: its response has probability about "
        f"10^{log10_q:.1f} at these parameters, and tries number {wanted} / q(y) on average. Raise max_tries, start at "
        "parameters under which the data are likelier, or use multilevel, whose cost does not depend on q(y)."
    )


def _check_numbers(n_accepted: int, max_tries: int) -> None:
    if n_accepted < 1 or max_tries < n_accepted:
        raise ValueError(
            f"n_accepted is {n_accepted} and max_tries {max_tries}; accept one draw at least, and try as often or more."
        )
