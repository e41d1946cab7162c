"""Train a method in a regime and test it, under equal updates and under equal compute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from eeqs.llm.backend import Backend
from eeqs.llm.methods import Method, embedding_scale
from eeqs.llm.packing import Rows
from eeqs.llm.perturbed import PerturbedLM
from eeqs.llm.training import Outcome, Run, Settings, fit
from simulations.designs.ood_regime import Regime
from simulations.designs.ood_rows import of_scores

__all__ = ["BUDGETS", "Size", "at_draws", "trained", "validated"]

BUDGETS = ("updates", "compute")
"""What is equal between methods: updates of the kernel, or forward and backward passes over all stages."""


@dataclass(frozen=True)
class Size:
    """How much of the study a preset runs, in one regime.

    Attributes
    ----------
    regime : Regime
    methods : tuple of str
    seeds : int
        Training seeds of every method.
    settings : Settings
        The same for all methods, but for the seed.
    updates : int
        Updates of every stage under equal updates.
    passes : int
        Forward and backward passes of a batch, over all stages, under equal compute.
    inference_draws : int
    """

    regime: Regime
    methods: tuple[str, ...]
    seeds: int
    settings: Settings
    updates: int
    passes: int
    inference_draws: int = 6


def trained(size: Size, method: Method, seed: int, device: str) -> list[tuple[str, float, float]]:
    """Train a method and return rows (parameter, estimate, se), see `simulations.designs.ood_rows`.

    The model is tested after `Size.updates`, goes on to `Size.passes`, and is tested again, both times with the weights
    that were best on validation text so far. Beside the scores there are, for both budgets, ``validation`` (bits a
    byte), ``update`` (of the best weights), ``passes`` and ``noise``.
    """
    run, model, initial = _run(size, method, seed, device)
    validation = size.regime.validation()
    # The embeddings before training are the unit in which scales start.
    unit = embedding_scale(size.regime.backend(seed))
    each = len(method.equations[0].draws) if method.splits else method.passes
    rows: list[tuple[str, float, float]] = []
    scores, best = None, -1
    for budget, updates in zip(BUDGETS, (size.updates, (size.passes - run.earlier_passes) // each), strict=True):
        outcome = run.advance(max(updates, size.updates))
        if scores is None or outcome.best_update != best:
            scores, best = size.regime.test(method.predictor(model, initial)), outcome.best_update
        rows += of_scores(budget, scores)
        rows += [(f"{budget}|{name}", value, float("nan")) for name, value in _course(outcome, run.earlier_passes)]
        rows.append((f"{budget}|noise", _noise(model, validation) / unit, float("nan")))
    return rows


def at_draws(
    size: Size, method: Method, seed: int, device: str, draws: Sequence[int]
) -> list[tuple[str, float, float]]:
    """Train a method under equal updates and test it with each of some numbers of draws at inference.

    The rows are those of `trained` with the number of draws in place of the budget.
    """
    run, model, initial = _run(size, method, seed, device)
    run.advance(size.updates)
    rows: list[tuple[str, float, float]] = []
    for number in draws:
        model.inference_draws = number
        rows += of_scores(str(number), size.regime.test(method.predictor(model, initial)))
    return rows


def validated(size: Size, method: Method, seed: int, device: str) -> float:
    """Train a method under equal updates; bits a byte of its best weights on in-domain validation text."""
    return _run(size, method, seed, device)[0].advance(size.updates).best


def _run(size: Size, method: Method, seed: int, device: str) -> tuple[Run, PerturbedLM, dict[str, Tensor]]:
    """Train under equal updates; the run, the model, and its state before."""
    backend = cast("nn.Module", size.regime.backend(seed)).to(device)
    model = method.model(cast("Backend", backend), seed).to(device)
    initial = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    text = size.regime.text(not getattr(model.perturbation, "sequence", False))
    settings = replace(size.settings, seed=seed % 1_000_003)
    return fit(model, method, text, size.regime.validation(), settings, size.updates), model, initial


def _course(outcome: Outcome, earlier: int) -> list[tuple[str, float]]:
    passes = float(outcome.passes + earlier)
    return [("validation", outcome.best), ("update", float(outcome.best_update)), ("passes", passes)]


@torch.no_grad()
def _noise(model: PerturbedLM, rows: Rows) -> float:
    """Root mean square of the displacement of a coordinate, over tokens and draws."""
    law, perturbation = model.perturbation.latent_law, cast("nn.Module", model.perturbation)
    device = next(model.parameters()).device
    ids = rows.input_ids[rows.attention_mask.bool()].to(device)
    embedded = model.backend.embed(ids[None])[0].double()
    generator = torch.Generator().manual_seed(0)
    z = law.sample((len(ids), model.perturbation.latent_dim), generator, torch.float64, torch.device("cpu")).to(device)
    before = {name: tensor.clone() for name, tensor in perturbation.state_dict().items()}
    moved = perturbation.double()(embedded, z)
    perturbation.load_state_dict(before)
    return float((moved - embedded).square().mean().sqrt())
