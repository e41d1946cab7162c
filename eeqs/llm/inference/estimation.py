"""Estimate phi with a covariance by document."""

from __future__ import annotations

import copy
from typing import Any, cast

import eeqs
from eeqs.engine.inference import Estimate
from eeqs.llm.inference.psi import perturbation_psi
from eeqs.llm.inference.stream import DOCUMENT, Corpus, document_stream
from eeqs.llm.perturbed import PerturbedLM
from eeqs.marginal import parameters
from eeqs.marginal.draws import Draws, as_draws
from eeqs.marginal.protocols import Perturbation
from eeqs.marginal.scores import Score

__all__ = ["estimate_perturbation", "with_estimate"]

# Parameters for which a Jacobian is still computed column by column.
_MOST = 512


def estimate_perturbation(
    model: PerturbedLM,
    corpus: Corpus,
    *,
    score: Score | None = None,
    draws: int | Draws | None = None,
    seed: int = 0,
    batch_size: int = 32,
    cov: str = "CR1",
    theta0: Any = None,
    tolerance: float = 1e-6,
    max_iterations: int = 50,
    throw: bool = True,
) -> Estimate:
    r"""Solve :math:`\sum_i \psi_i(\varphi) = 0` on documents, the kernel frozen, with standard errors by document.

    .. math:: \operatorname{var} \hat\varphi = A^{-1} B A^{-\top} / n, \qquad
              B = \frac1n \sum_g \psi_g \psi_g^\top, \quad \psi_g = \sum_{i \in g} \psi_i,

    with n windows i and documents g. Draws belong to the datum, so B contains the simulation variance.

    Parameters
    ----------
    model : PerturbedLM
        The learnable parameters of its perturbation are estimated, from their values on.
    corpus : Rows, or callable returning an iterable of Rows
        Documents that the kernel was not trained on: on its training documents phi estimates less noise than helps.
    score, draws : optional
        The model's own by default. A biased score gets an interval around another value.
    seed : int
        Of the latents.
    batch_size : int
        Windows evaluated at once; memory does not grow with the number of documents.
    cov : {"CR1", "CR0", "CR1S", "CR2", "CR3"}
        Kind of `eeqs.Cluster`; CR2 or CR3 with ``fit.with_df(fit.df_clusters)`` for a few dozen documents.
    theta0 : array of shape (p,), optional
        Other starting values.
    tolerance, max_iterations, throw
        As in `eeqs.estimate`.

    Returns
    -------
    Estimate
        ``nobs`` counts windows. See `leave_document_out` for its influence by document, `diagnose` for the share of
        simulation in its variance, and `with_estimate` for a model that holds it.

    Raises
    ------
    ValueError
        For more than 512 parameters, or options out of range.
    DataError
        If documents do not fit the model, or there is only one.
    SolverError
        If the equation was not solved; `zero_noise_test` says whether there is noise at all.
    SingularBreadError
        If the documents do not identify the parameters; the message names them.
    """
    design = model.draws if draws is None else as_draws(draws)
    psi = perturbation_psi(model, score, design)
    if len(psi.names) > _MOST:
        raise ValueError(
            f"the perturbation has {len(psi.names)} parameters, and their Jacobian takes a pass over the documents for "
            f"each; use up to {_MOST} (a diagonal or a low rank), or estimate one functional of them matrix-free: "
            "eeqs.estimate_functional(perturbation_psi(model), document_stream(...), functional, cov=Cluster(...))."
        )
    stream = document_stream(corpus, model.perturbation, design, seed=seed, batch_size=batch_size)
    return eeqs.estimate(
        psi, cast("Any", stream), theta0, eeqs.Cluster(DOCUMENT, cov), tolerance=tolerance,
        max_iterations=max_iterations, throw=throw,
    )  # fmt: skip


def with_estimate(model: PerturbedLM, fit: Estimate) -> PerturbedLM:
    """Copy of the model whose perturbation holds the estimates."""
    held = copy.deepcopy(model)
    _assign(held.perturbation, fit)
    return held


def _assign(perturbation: Perturbation, fit: Estimate) -> None:
    pieces = parameters.unflatten(perturbation, fit.solution.theta)  # type: ignore[arg-type]
    for name, value in parameters.learnable(perturbation).items():  # type: ignore[arg-type]
        value.data.copy_(pieces[name])
