"""What a user should know before an estimate from a model, a score and a design of draws is believed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from eeqs.engine.linalg import equilibrate, null_parameters
from eeqs.marginal.draws import Draws
from eeqs.marginal.identifiability.efficiency import confounding
from eeqs.marginal.identifiability.sums import Blocks, Sums, average, false_alarm, jackknife
from eeqs.marginal.scores import Score

if TYPE_CHECKING:
    from eeqs.marginal.model import Marginal

__all__ = ["warnings_of"]

# False-alarm rate of each test of psi.
_LEVEL = 1e-3
# Share of the information on the perturbation that a free kernel leaves, below which they count as confounded: standard
# errors three times as large. Isotropic noise before a softmax leaves 0.001 to 0.1 with free biases, half without.
_CONFOUNDED = 0.1
# Loading, relative to the largest of its part, from which a parameter is named.
_NAMED = 0.3


def warnings_of(
    model: Marginal,
    score: Score,
    draws: Draws | None,
    blocks: Blocks,
    reference: Blocks | None,
    *,
    exact_reference: bool,
) -> tuple[str, ...]:
    """Warnings on the sums of a score, with those of its reference where there is one."""
    return (
        *_of_psi(score, blocks, exact_reference=exact_reference),
        *_of_reference(reference if exact_reference else None),
        *_of_structure(model, average(*blocks), average(*(reference or blocks))),
        *_of_draws(model, score, draws),
    )


def _of_psi(score: Score, blocks: Blocks, *, exact_reference: bool) -> Iterator[str]:
    p_mean = false_alarm(*jackknife(lambda sums: sums.mean, blocks))
    if not score.unbiased:
        yield (
            f"{score.name} is biased at these draws (p-value of a mean of zero {p_mean:.2g}); its sandwich and "
            "efficiency are about the wrong value."
        )
    elif p_mean < _LEVEL:
        yield (
            f"the mean of psi of {score.name} is not zero at the truth (p-value {p_mean:.2g}), though it is declared "
            "unbiased; run eeqs.check_unbiased."
        )
    if exact_reference and score.unbiased:
        p_bread = false_alarm(*jackknife(lambda sums: sums.bread - sums.slope, blocks))
        if p_bread < _LEVEL:
            yield (
                f"the bread of {score.name} is not minus the mean of psi times the exact score (p-value {p_bread:.2g});"
                " psi is biased, or its bread misses a derivative (a surrogate with detach()): run "
                "eeqs.check_jacobian."
            )


def _of_reference(reference: Blocks | None) -> Iterator[str]:
    if reference is None:
        return
    p_value = false_alarm(*jackknife(lambda sums: sums.mean, reference))
    if p_value < _LEVEL:
        yield f"the reference score is not zero on average (p-value {p_value:.2g}); raise nodes."


def _of_structure(model: Marginal, sums: Sums, reference: Sums) -> Iterator[str]:
    names = model.names
    involved = null_parameters(sums.bread, names)
    if involved:
        yield (
            f"the bread is singular: {', '.join(involved)} are not separately identified; only functions of them that "
            "the equations change with are (eeqs.estimate with minimum_norm=True)."
        )
    own = torch.tensor([not name.startswith("kernel.") for name in names], device=sums.bread.device)
    if not bool(own.any()) or bool(own.all()):
        return
    share, direction = confounding(reference.slope, own)
    if share < _CONFOUNDED:
        loading = direction / equilibrate(reference.slope)[2]
        noise, kernel = (_heaviest(loading, names, part) for part in (own, ~own))
        yield (
            f"{noise} and {kernel} are both free and nearly confounded: a change of the kernel mimics the noise, and "
            f"estimating it leaves {share:.2g} of the information on the noise. Freeze the kernel, or use one whose "
            "curvature identifies the scale."
        )


def _heaviest(loading: Tensor, names: tuple[str, ...], part: Tensor) -> str:
    size = loading.abs() * part
    named = size >= _NAMED * size.max()
    return ", ".join(name for name, keep in zip(names, named.tolist(), strict=True) if keep)


def _of_draws(model: Marginal, score: Score, draws: Draws | None) -> Iterator[str]:
    noise = [name for name in model.names if not name.startswith("kernel.")]
    if draws is not None and score.every_class and len(draws) == 2 and noise:
        yield (
            f"with two draws the instrument of {score.name} is the score of a single draw, which says almost nothing "
            f"on {', '.join(noise)}; use four draws or more."
        )
