"""What to know before an estimate of phi is believed: identifiability, and the part of the variance that is draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch

import eeqs
from eeqs.engine.covariance.simulation import SimulationShare
from eeqs.engine.inference import Estimate
from eeqs.engine.linalg import equilibrate
from eeqs.llm.inference.psi import perturbation_psi
from eeqs.llm.inference.stream import DOCUMENT, Corpus, document_stream
from eeqs.llm.perturbed import PerturbedLM
from eeqs.marginal.draws import Draws, as_draws
from eeqs.marginal.scores import Score

__all__ = ["Diagnosis", "diagnose"]


@dataclass(frozen=True)
class Diagnosis:
    """Identifiability and simulation variance of an estimate of phi.

    Attributes
    ----------
    condition : float
        Condition number of the equilibrated bread; infinite where it is singular.
    worst_direction : Series of length p
        Direction of its smallest singular value by parameter name, a unit vector: what the documents say least about.
    simulation : SimulationShare
        The meat by document split into sampling and simulation; ``simulation.share`` is the part of each variance that
        more draws would save.
    """

    condition: float
    worst_direction: pd.Series
    simulation: SimulationShare

    def __str__(self) -> str:
        table = pd.DataFrame(
            {
                "simulation share": self.simulation.share,
                "its error": self.simulation.share_error,
                "worst direction": self.worst_direction,
            }
        )
        return f"bread: condition number {self.condition:.3g}\n{table.to_string(float_format='{:.3f}'.format)}"


def diagnose(
    model: PerturbedLM,
    corpus: Corpus,
    fit: Estimate,
    *,
    score: Score | None = None,
    draws: int | Draws | None = None,
    redraws: int = 8,
    seed: int = 0,
    batch_size: int = 32,
) -> Diagnosis:
    """Report the condition of the bread, and how much of the variance comes from the latents.

    Parameters
    ----------
    model, corpus, score, draws, batch_size
        As they went into `estimate_perturbation`.
    fit : Estimate
        What came out.
    redraws : int
        Sets of latents, 3 or more: each costs an evaluation of psi and of its Jacobian on all documents.
    seed : int
        Of these latents.
    """
    design = model.draws if draws is None else as_draws(draws)

    def redraw(_: Any, generator: torch.Generator) -> Any:
        own = int(torch.randint(2**62, (), generator=generator))
        return document_stream(corpus, model.perturbation, design, seed=own, batch_size=batch_size)

    psi = perturbation_psi(model, score, design)
    share = eeqs.simulation_share(psi, fit.solution.theta, (), redraw, redraws, by=DOCUMENT, seed=seed)
    values, right = torch.linalg.svd(equilibrate(fit.bread)[0])[1:]
    condition = float(values[0] / values[-1])
    direction = pd.Series(right[-1].numpy(force=True), list(fit.names), name="worst direction")
    return Diagnosis(condition, direction, share)
