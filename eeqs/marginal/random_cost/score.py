r"""Scores whose number of draws is random: estimates of the score of log q that are unbiased at every parameter.

Each makes its own draws, for the posterior ones at the current parameters, so there is no column of draws and no
`eeqs.marginal.Marginal.psi`. What is offered instead is a loss for stochastic gradients and per-observation scores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import torch
from torch import Tensor

from eeqs.engine.derivative import directional
from eeqs.engine.errors import DataError
from eeqs.marginal.checks import check_classes, check_embeddings
from eeqs.marginal.layout import take_response

if TYPE_CHECKING:
    from eeqs.marginal.model import Marginal

__all__ = ["Block", "RandomCostScore", "Sampler", "check_observations", "log_response", "most_pairs", "theta_of"]

# Log-probabilities held at once, over all tangents: 16 MiB in float64.
_NUMBERS = 2**21


class Block(NamedTuple):
    """Observations with equally many draws.

    Attributes
    ----------
    rows : Tensor of shape (b,)
        Which observations.
    z : Tensor of shape (b, K, q)
        Their draws.
    cost : Tensor of shape (b,)
        Latents for which the kernel was evaluated.
    loss : callable
        From the log-probabilities (K, b) of the responses given the draws to the losses (b,).
    """

    rows: Tensor
    z: Tensor
    cost: Tensor
    loss: Callable[[Tensor], Tensor]


Sampler: TypeAlias = Callable[["Marginal", Tensor, Tensor, torch.Generator, Tensor | None, int], Iterator[Block]]
"""``sampler(model, prefix, y, generator, theta, most)``: draws at ``theta`` for every observation once, in blocks of at
most ``most`` pairs of an observation and a draw, or of one observation."""


@dataclass(frozen=True)
class RandomCostScore:
    r"""A loss of a random number of draws, whose gradient has minus the score of log q as its mean, at every parameter.

    Attributes
    ----------
    name : str
    formula : str
        The loss of one observation, given its draws.
    mean_cost : str
        Formula of the expected number of draws an observation.
    sampler : callable
        How the draws are made; see `Sampler`.
    unbiased : bool
        Whether the mean of the score is zero at the truth.

    Examples
    --------
    >>> import torch
    >>> from eeqs.marginal import Gaussian, Marginal, Softmax
    >>> from eeqs.marginal.random_cost import posterior
    >>> weight = torch.tensor([[2.0, 0.0], [-1.0, 2.0], [-1.0, -2.0]], dtype=torch.float64)
    >>> model = Marginal(Gaussian(2, log_scale=0.0), Softmax(weight).requires_grad_(False))
    >>> generator = torch.Generator().manual_seed(1)
    >>> x = torch.randn(500, 2, generator=generator, dtype=torch.float64)
    >>> y = model.simulate(x, generator)
    >>> loss, cost = posterior().loss(model, x, y, generator)
    >>> loss.mean().backward()  # a stochastic gradient of -log q
    >>> values, cost = posterior().score_sample(model, x, y, generator)
    >>> values.shape, bool((cost >= 1).all())
    (torch.Size([500, 1]), True)
    """

    name: str
    formula: str
    mean_cost: str
    sampler: Sampler
    unbiased: bool = True

    def loss(self, model: Marginal, prefix: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Losses for stochastic gradients, with fresh draws at the values the model holds.

        Parameters
        ----------
        model : Marginal
        prefix : Tensor of shape (n, d)
        y : Tensor of shape (n,)
            Classes.
        generator : torch.Generator

        Returns
        -------
        loss : Tensor of shape (n,)
            Differentiable once in the model's parameters. A second derivative is that at fixed draws; where these
            depend on the parameters, as for ``posterior``, it is not the information.
        cost : Tensor of shape (n,), long
            Latents for which the kernel was evaluated.

        Raises
        ------
        DataError
            If a shape or a class does not fit, or the draws of an observation cannot be made.
        TypeError
            If ``generator`` is not a torch.Generator.
        """
        check_observations(self.name, model, prefix, y, generator)
        found = self._blocks(model, prefix, y.long(), generator, None, most_pairs(model, 0), _loss)
        return found[0], found[1]

    def score_sample(
        self, model: Marginal, prefix: Tensor, y: Tensor, generator: torch.Generator, theta: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Estimated score of every observation, with fresh draws at ``theta``.

        Parameters
        ----------
        model : Marginal
        prefix : Tensor of shape (n, d)
        y : Tensor of shape (n,)
            Classes.
        generator : torch.Generator
        theta : Tensor of shape (p,), optional
            The values the model holds by default.

        Returns
        -------
        values : Tensor of shape (n, p)
            One forward pass a parameter (p << n), in blocks: memory does not grow with n, but all draws of one
            observation are held at once.
        cost : Tensor of shape (n,), long

        Raises
        ------
        DataError, TypeError
            As for `loss`.
        ValueError
            If ``theta`` has another length than the learnable parameters, or there are none.
        """
        check_observations(self.name, model, prefix, y, generator)
        theta = theta_of(model, prefix, theta)
        with torch.no_grad():
            return self._blocks(model, prefix, y.long(), generator, theta, most_pairs(model, len(theta)), _score)

    def _blocks(
        self,
        model: Marginal,
        prefix: Tensor,
        y: Tensor,
        generator: torch.Generator,
        theta: Tensor | None,
        most: int,
        evaluate: Callable[[Marginal, Tensor, Tensor, Block, Tensor | None], Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Evaluate block by block and bring the observations back into their order."""
        values, costs, rows = [], [], []
        for block in self.sampler(model, prefix, y, generator, theta, most):
            values.append(evaluate(model, prefix[block.rows], y[block.rows], block, theta))
            costs.append(block.cost)
            rows.append(block.rows)
        order = torch.cat(rows).argsort()
        return torch.cat(values)[order], torch.cat(costs)[order]


def _loss(model: Marginal, prefix: Tensor, y: Tensor, block: Block, theta: Tensor | None) -> Tensor:
    return block.loss(log_response(model, prefix, y, block.z, theta))


def _score(model: Marginal, prefix: Tensor, y: Tensor, block: Block, theta: Tensor | None) -> Tensor:
    assert theta is not None  # noqa: S101 - for the type checker: score_sample fills it in
    return -directional(lambda b: _loss(model, prefix, y, block, b), theta)[1].mT


def log_response(model: Marginal, prefix: Tensor, y: Tensor, z: Tensor, theta: Tensor | None) -> Tensor:
    """Log-probabilities (K, b) of the classes ``y`` (b,) given the draws ``z`` (b, K, q)."""
    return take_response(model.evaluate(prefix, z, theta), y)


def most_pairs(model: Marginal, n_tangents: int) -> int:
    """Pairs of an observation and a draw whose log-probabilities, and tangents of these, are held at once."""
    return max(1, _NUMBERS // (model.kernel.n_classes * (1 + n_tangents)))


def theta_of(model: Marginal, prefix: Tensor, theta: Tensor | None) -> Tensor:
    """``theta``, or the values the model holds, on the device of ``prefix``."""
    if not model.names:
        raise ValueError("no parameter of the model is learnable; call requires_grad_(True) on the part to estimate.")
    return (model.theta if theta is None else theta.detach()).to(prefix.device)


def check_observations(name: str, model: Marginal, prefix: Tensor, y: Tensor, generator: torch.Generator) -> None:
    """Raise unless the kernel has probabilities of classes, the data fit it, and there is a generator."""
    if model.kernel.n_classes is None:
        raise ValueError(
            f"{name} needs probabilities, but the response of the kernel {type(model.kernel).__name__} is continuous "
            "and has none (n_classes is None); use the energy score."
        )
    if not isinstance(generator, torch.Generator):
        raise TypeError(f"generator is a {type(generator).__name__}; pass torch.Generator().manual_seed(seed).")
    if y.ndim != 1 or len(y) == 0:
        raise DataError(f"y has shape {tuple(y.shape)}; pass (n,) with one observation at least.")
    check_embeddings(model, prefix, y.shape)
    check_classes(model, y)
