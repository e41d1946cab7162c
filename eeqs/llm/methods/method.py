"""What a training method is: a model, the estimating equations its parameters solve, and how it predicts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from eeqs.llm.backend import Backend
from eeqs.llm.corpus import Document
from eeqs.llm.language_model import LanguageModel
from eeqs.llm.perturbed import PerturbedLM
from eeqs.marginal.draws import Draws, iid
from eeqs.marginal.protocols import Perturbation
from eeqs.marginal.scores import Score, single_draw

__all__ = ["PERTURBATION", "THETA", "Equation", "Method", "equations_of_one_sample"]

THETA, PERTURBATION = "backend.", "perturbation."
"""Beginnings of the names of the parameters of `eeqs.llm.PerturbedLM`: the kernel's, and the perturbation's."""


@dataclass(frozen=True)
class Equation:
    """Parameters, and the estimating equation that they solve.

    Parameters
    ----------
    name : str
    rates : mapping of str to float
        For every block of parameters, given as the beginning of their names, its learning rate as a multiple of that
        of the run.
    score : Score
        Surrogate loss.
    draws : Draws
    fold : int
        Fold of the training documents it is averaged over.

    Raises
    ------
    ValueError
        There are no parameters, a rate is not positive, or the score cannot do with the draws.
    """

    name: str
    rates: Mapping[str, float]
    score: Score
    draws: Draws
    fold: int = 0

    def __post_init__(self) -> None:
        if not self.rates or min(self.rates.values()) <= 0:
            raise ValueError(f'equation "{self.name}": rates are {dict(self.rates)}; name a block and a positive rate.')
        if self.fold < 0:
            raise ValueError(f'equation "{self.name}": fold is {self.fold}; folds are 0, 1, ...')
        self.score.check_draws(self.draws)


def _itself(model: PerturbedLM, _: Mapping[str, torch.Tensor]) -> LanguageModel:
    return model


@dataclass(frozen=True)
class Method:
    """A way to train a language model and to predict with it.

    Every method is a `eeqs.llm.PerturbedLM`; plain training has the identity for a perturbation.

    Parameters
    ----------
    name : str
    summary : str
        One line for tables and the command line.
    perturbation : callable
        ``perturbation(backend, generator)`` builds the perturbation of a model, a torch module.
    equations : tuple of Equation
        Solved at the same time, each with a step an update.
    inference_draws : int
        Draws of the mixture mean in prediction.
    rewrite : callable, optional
        ``rewrite(documents, rng)`` gives the training documents of an epoch; ``rng`` is a numpy generator.
    splits : int
        Kernels trained only to learn the perturbation, which is then fixed while the kernel starts again and solves
        its equation on all documents; see `eeqs.llm.training.fit`. 1 splits the documents once, K at least 2 is K-fold
        cross-fitting; 0, the default, keeps the kernel that was trained beside the perturbation.
    predictor : callable, optional
        ``predictor(model, initial)`` gives what predicts, from the trained model and the state (name to tensor) it had
        before training; the model itself without it.

    Raises
    ------
    ValueError
        There is no equation, their folds are not 0, 1, ..., without a gap, or there are splits but not two equations,
        the kernel's on fold 0 and the perturbation's on fold 1.
    """

    name: str
    summary: str
    perturbation: Callable[[Backend, torch.Generator], Perturbation]
    equations: tuple[Equation, ...]
    inference_draws: int = 16
    rewrite: Callable[[Sequence[Document], np.random.Generator], Sequence[Document]] | None = None
    splits: int = 0
    predictor: Callable[[PerturbedLM, Mapping[str, torch.Tensor]], LanguageModel] = _itself

    def __post_init__(self) -> None:
        folds = sorted({equation.fold for equation in self.equations})
        if folds != list(range(len(folds))) or not folds:
            raise ValueError(f"{self.name}: its equations use folds {folds}; number them from 0 without a gap.")
        blocks = [[*equation.rates] for equation in self.equations]
        if self.splits and (blocks != [[THETA], [PERTURBATION]] or folds != [0, 1]):
            raise ValueError(
                f"{self.name}: splits is {self.splits}, which takes an equation of the kernel on fold 0 and one of the "
                f"perturbation on fold 1; build it with split_sample."
            )

    @property
    def n_folds(self) -> int:
        """Number of folds of documents; 1 where all equations share all documents."""
        return 1 + max(equation.fold for equation in self.equations)

    @property
    def passes(self) -> int:
        """Forward and backward passes of a batch that an update takes: the cost of an update."""
        return sum(len(equation.draws) for equation in self.equations)

    def model(self, backend: Backend, seed: int) -> PerturbedLM:
        """Wrap a backend; ``seed`` gives the initial perturbation and all latents."""
        generator = torch.Generator().manual_seed(seed)
        first = self.equations[0]
        return PerturbedLM(
            backend,
            self.perturbation(backend, generator),
            first.score,
            draws=first.draws,
            inference_draws=self.inference_draws,
            seed=seed,
        )


def equations_of_one_sample(
    score: Score = single_draw, draws: Draws | None = None, *, phi_rate: float | None = None
) -> tuple[Equation]:
    """One equation for the kernel and, with a rate, the perturbation, on all documents: in-sample joint training."""
    rates = {THETA: 1.0} if phi_rate is None else {THETA: 1.0, PERTURBATION: phi_rate}
    return (Equation("joint", rates, score, draws or iid(1)),)
