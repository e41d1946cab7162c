"""Which parameters of a marginal model a score identifies, how efficiently, and with how many draws."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from eeqs.engine.covariance import simulation_share
from eeqs.engine.door import as_problem
from eeqs.engine.errors import SingularBreadError
from eeqs.engine.linalg import equilibrate, null_parameters
from eeqs.marginal.draws import Draws, as_draws, sobol
from eeqs.marginal.identifiability.efficiency import efficiency, known, spectrum
from eeqs.marginal.identifiability.recommend import Recommendation, recommend
from eeqs.marginal.identifiability.report import Identifiability
from eeqs.marginal.identifiability.sums import BLOCKS, Blocks, Sample, Sums, average, block_sums, jackknife
from eeqs.marginal.identifiability.warn import warnings_of
from eeqs.marginal.scores import Score, exact, two_sample

if TYPE_CHECKING:
    from eeqs.marginal.model import Marginal

__all__ = ["identifiability"]

# Latent dimensions of a product rule, and draws of the reference where there are more.
_MOST_DIMENSIONS, _REFERENCE_DRAWS = 3, 256
# Classes up to which the expectation over the response is a sum.
_MOST_CLASSES = 64
_WORST = "worst direction"


@dataclass(frozen=True)
class _Study:
    """A sample with the reference on it."""

    model: Marginal
    sample: Sample
    generator: torch.Generator
    reference: Blocks | None

    def sums(self, score: Score, draws: Draws | None, *, differentiate: bool = True) -> Blocks:
        """Evaluate a score on the sample, with fresh draws of a design."""
        psi, z = self.model.psi(score, draws=draws), self.draw(draws)
        return block_sums(psi, self.model.theta, self.sample, z, differentiate=differentiate)

    def draw(self, draws: Draws | None) -> Tensor | None:
        """Fresh draws for every embedding."""
        return None if draws is None else self.model.draw(self.sample.prefix, draws, self.generator)

    def least_efficiency(self, score: Score, gradients: Tensor, draws: Draws) -> tuple[float, float]:
        """Smallest efficiency of functions with gradients (m, p), and its standard error."""
        assert self.reference is not None  # noqa: S101 - asked for only with one
        own = self.sums(score, draws, differentiate=False)
        value, error = jackknife(lambda a, b: efficiency(a, b, gradients).min(), self.reference, own)
        return float(value), float(error)


def identifiability(
    model: Marginal,
    score: Score,
    prefix: Tensor,
    generator: torch.Generator,
    *,
    draws: int | Draws | None = None,
    nodes: int = 16,
    target: float = 0.9,
    most: int = 256,
    n_redraws: int = 10,
) -> Identifiability:
    r"""Report what a score identifies at the values the model holds, if these are the truth.

    Responses follow the model, so every figure is about the design and not about data: the bread and its worst
    direction, the Godambe efficiency against the exact score, the share of the variance that draws cause, and
    the number of draws that reaches a target efficiency. Put an estimate into the model first
    (`Marginal.with_theta`) to ask about a fit.

    Parameters
    ----------
    model : Marginal
    score : Score
    prefix : Tensor of shape (n, d)
        Embeddings of the design; repeat its rows where standard errors should be smaller.
    generator : torch.Generator
        For responses and draws.
    draws : int or Draws, optional
        As in `Marginal.psi`; left out for a quadrature score.
    nodes : int
        Quadrature nodes a latent dimension of the exact score, the reference for up to three latent dimensions.
        Beyond, it is `two_sample` with 256 Sobol draws, whose own loss of a few per cent makes efficiencies too large
        by as much; there is none for a continuous response.
    target : float
        Efficiency wanted in every parameter.
    most : int
        Most draws considered.
    n_redraws : int
        Sets of draws for the simulation share, at least 3.

    Returns
    -------
    Identifiability
        Standard errors are by the jackknife over blocks of observations. Its warnings are part of the result: print it.

    Raises
    ------
    ValueError
        If the score cannot use such draws, there are fewer than 20 (p + 1) embeddings, ``most`` is below the number
        of draws, or target is not in (0, 1).
    TypeError
        If ``generator`` is not a torch.Generator.

    Notes
    -----
    Besides the structure it tests psi itself: the mean of psi and, against an exact reference, the identity
    :math:`A = -E\, \psi s^\top` of the bread with the exact score s, which holds for every unbiased psi (Godambe 1960)
    and fails for one that is biased or whose bread misses a derivative, as after ``detach()``. Each of these tests has
    a false-alarm rate of 0.1 %.
    """
    if not 0 < target < 1:
        raise ValueError(f"target is {target}; pass an efficiency between 0 and 1.")
    fixed = model.with_theta(model.theta).to(torch.float64)
    design = None if draws is None else as_draws(draws)
    psi = fixed.psi(score, draws=design)
    if design is not None and most < len(design):
        raise ValueError(f"most is {most}, but {len(design)} draws are asked about; raise it to that at least.")
    if len(prefix) < BLOCKS * (len(fixed.names) + 1):
        raise ValueError(
            f"{len(prefix)} observations are too few for {len(fixed.names)} parameters; repeat the rows of prefix "
            f"until there are {BLOCKS * (len(fixed.names) + 1)}."
        )
    study, label = _study(fixed, prefix.double(), generator, nodes)
    if psi.root is not None and study.sample.score is None:
        raise ValueError(f"psi of {score.name} jumps, and its bread needs an exact reference: {label}.")
    blocks = study.sums(score, design)
    whole = average(*blocks)
    gradients = torch.cat([torch.eye(len(fixed.names)).to(whole.bread), _coordinate(whole.bread)])
    values, right, kept = spectrum(whole.bread)
    index = [*fixed.names, _WORST]
    table = _efficiencies(study, score, blocks, whole, gradients, index)
    table[["simulation", "simulation_error"]] = _simulation(study, score, design, fixed.names, n_redraws)
    advice = _recommendation(study, score, design, gradients[:-1], table, target, most)
    return Identifiability(
        score.name,
        "none (quadrature)" if design is None else str(design),
        len(prefix),
        pd.Series(values.numpy(force=True), name="singular value"),
        float(values[0] / values[-1]) if bool(kept.all()) else float("inf"),
        pd.Series(right[kept][-1].numpy(force=True), index=list(fixed.names), name=_WORST),
        null_parameters(whole.bread, fixed.names),
        table,
        label,
        advice,
        warnings_of(fixed, score, design, blocks, study.reference, exact_reference=study.sample.score is not None),
    )


def _study(model: Marginal, prefix: Tensor, generator: torch.Generator, nodes: int) -> tuple[_Study, str]:
    """Make the sample and evaluate the reference on it; say what the reference is."""
    if model.perturbation.latent_dim <= _MOST_DIMENSIONS:
        bare = _sample(model, prefix, generator, nodes)
        psi = model.psi(exact(nodes))
        score = as_problem(psi, bare.columns(None)).values(model.theta)
        sample = replace(bare, score=score.unflatten(0, bare.y.shape))
        label = f"the exact score by quadrature, {nodes} nodes a dimension"
        return _Study(model, sample, generator, block_sums(psi, model.theta, sample, None)), label
    y = model.simulate(prefix, generator)[:, None]
    study = _Study(model, Sample(prefix, y, torch.ones_like(y, dtype=torch.float64)), generator, None)
    if model.continuous:
        return study, "nothing: there is no exact score of a continuous response beyond three latent dimensions"
    reference = study.sums(two_sample, sobol(_REFERENCE_DRAWS))
    return replace(study, reference=reference), f"two_sample with {_REFERENCE_DRAWS} Sobol draws, not quite efficient"


def _sample(model: Marginal, prefix: Tensor, generator: torch.Generator, nodes: int) -> Sample:
    """Take every class of few by its probability, and otherwise a simulated response."""
    if model.continuous or model.kernel.n_classes > _MOST_CLASSES:
        y = model.simulate(prefix, generator)[:, None]
        return Sample(prefix, y, torch.ones_like(y, dtype=torch.float64))
    classes = torch.arange(model.kernel.n_classes, device=prefix.device)
    return Sample(prefix, classes.expand(len(prefix), -1), model.predict(prefix, nodes=nodes))


def _coordinate(bread: Tensor) -> Tensor:
    """Gradient (1, p) of the coordinate along the worst direction, in equilibrated units."""
    _, right, kept = spectrum(bread)
    return (right[kept][-1] / equilibrate(bread)[2])[None]


def _efficiencies(
    study: _Study, score: Score, blocks: Blocks, whole: Sums, gradients: Tensor, index: list[str]
) -> pd.DataFrame:
    missing = np.full(len(index), np.nan)
    table = pd.DataFrame({"efficiency": missing, "efficiency_error": missing}, index=index)
    if study.reference is None or not score.unbiased:
        return table
    shown = known(average(*study.reference), whole, gradients)
    value, error = jackknife(functools.partial(efficiency, gradients=gradients[shown]), study.reference, blocks)
    table.loc[shown.numpy(force=True), :] = torch.stack([value, error], dim=1).numpy(force=True)
    return table


def _simulation(
    study: _Study, score: Score, draws: Draws | None, names: tuple[str, ...], n_redraws: int
) -> pd.DataFrame:
    """Share of the variance that draws cause; NaN without draws, and where psi has no bread to invert."""
    columns = ["simulation", "simulation_error"]
    missing = pd.DataFrame(np.nan, index=[*names, _WORST], columns=columns)
    if draws is None or score.simulates:
        return missing
    psi = study.model.psi(score, draws=draws)

    def redraw(data: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        return {**data, "z": study.model.draw(data["x"], draws, generator)}

    data = {"x": study.sample.prefix, "y": study.model.simulate(study.sample.prefix, study.generator)}
    seed = int(torch.randint(2**31, (), generator=study.generator, device=study.generator.device))
    try:
        found = simulation_share(psi, study.model.theta, data, redraw, n_redraws, seed=seed)
    except SingularBreadError:
        return missing
    missing.loc[list(names)] = np.stack([found.share, found.share_error], axis=1)
    return missing


def _recommendation(
    study: _Study, score: Score, draws: Draws | None, gradients: Tensor, table: pd.DataFrame, target: float, most: int
) -> Recommendation | None:
    shown = torch.from_numpy(table["efficiency"].notna().to_numpy()[:-1].copy()).to(gradients.device)
    if draws is None or study.reference is None or not bool(shown.any()):
        return None
    evaluate = functools.partial(study.least_efficiency, score, gradients[shown])
    return recommend(evaluate, draws, score, target, most)
