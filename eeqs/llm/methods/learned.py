"""A perturbation that is learned with the model, on the same documents or on others."""

from __future__ import annotations

from eeqs.llm.methods.method import PERTURBATION, THETA, Equation, Method
from eeqs.llm.methods.perturbations import Build
from eeqs.marginal.draws import Draws, iid
from eeqs.marginal.scores import Score, cross_fitted, single_draw

__all__ = ["in_sample", "split_sample"]


def in_sample(
    name: str,
    perturbation: Build,
    score: Score,
    draws: int | Draws = 4,
    *,
    phi_rate: float = 1.0,
    inference_draws: int = 16,
) -> Method:
    """Kernel and perturbation solve one equation on all documents.

    Where the kernel can fit its sample this equation is degenerate for the perturbation, whose noise vanishes: it is
    the contrast to `split_sample`.

    Parameters
    ----------
    name : str
    perturbation : callable
        See `Method`; `eeqs.llm.methods.perturbations` has some.
    score : Score
    draws : int or Draws
    phi_rate : float
        Learning rate of the perturbation as a multiple of the kernel's.
    inference_draws : int
    """
    design = iid(draws) if isinstance(draws, int) else draws
    equation = Equation("joint", {THETA: 1.0, PERTURBATION: phi_rate}, score, design)
    summary = f"learned perturbation, {score.name} with {len(design)} draws on all documents"
    return Method(name, summary, perturbation, (equation,), inference_draws)


def split_sample(
    name: str,
    perturbation: Build,
    *,
    theta_score: Score = single_draw,
    theta_draws: int | Draws = 1,
    phi_score: Score = cross_fitted,
    phi_draws: int | Draws = 4,
    phi_rate: float = 1.0,
    splits: int = 0,
    inference_draws: int = 16,
) -> Method:
    """Solve the equation of the kernel on one fold of documents, and that of the perturbation on another.

    Parameters
    ----------
    name : str
    perturbation : callable
        See `Method`; `eeqs.llm.methods.perturbations` has some.
    theta_score, phi_score : Score
    theta_draws, phi_draws : int or Draws
    phi_rate : float
        Learning rate of the perturbation as a multiple of the kernel's.
    splits : int
        0 keeps the kernel of one fold; with 1 or more it starts again on all documents, see `Method`.
    inference_draws : int
    """
    for_theta, for_phi = (iid(n) if isinstance(n, int) else n for n in (theta_draws, phi_draws))
    equations = (
        Equation("theta", {THETA: 1.0}, theta_score, for_theta, fold=0),
        Equation("phi", {PERTURBATION: phi_rate}, phi_score, for_phi, fold=1),
    )
    summary = f"learned perturbation: kernel by {theta_score.name} on one fold, noise by {phi_score.name} on another"
    return Method(name, summary, perturbation, equations, inference_draws, splits=splits)
