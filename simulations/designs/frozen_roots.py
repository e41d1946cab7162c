"""Roots of one estimating function of the frozen-kernel model, for a batch of replicates at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import pandas as pd
import torch
from numpy.random import SeedSequence
from torch import Tensor

import eeqs
from eeqs.marginal import Draws, Score
from simulations.designs.frozen_kernel import FrozenKernel
from simulations.seeds import torch_generator

__all__ = ["Line", "frame", "roots"]

Line: TypeAlias = tuple[Score, Callable[[int], Draws]]
"""An estimator: a score, and the design of draws it takes for a number of them."""


def roots(
    design: FrozenKernel, score: Score, draws: Draws | None, n: int, seeds: Sequence[SeedSequence], device: str = "cpu"
) -> tuple[np.ndarray, list[str]]:
    """Simulate a sample a seed and solve each for the log-scale, from the start of the design.

    Parameters
    ----------
    design : FrozenKernel
    score : Score
    draws : Draws or None
        Latents of an observation; None for a score by quadrature.
    n : int
        Observations of a sample.
    seeds : sequence of numpy.random.SeedSequence
        One a sample.
    device : str
        Where the equations are solved; samples are made on the CPU.

    Returns
    -------
    estimate : array of shape (R,)
    status : list of str
        How the solver ended, R entries.
    """
    samples = [design.sample(n, draws, torch_generator(seed)) for seed in seeds]
    data: dict[str, Tensor] = {name: torch.stack([s[name] for s in samples]).to(device) for name in samples[0]}
    psi = design.model(design.start).to(device).psi(score, draws=draws)
    start = torch.full((len(samples), 1), design.start, dtype=torch.float64)
    solution = eeqs.solve(psi, data, start, tolerance=1e-6)
    return solution.theta[:, 0].numpy(force=True), [status.label for status in solution.status]


def frame(replicates: Sequence[int], truth: float, estimate: np.ndarray, status: Sequence[str]) -> pd.DataFrame:
    """Rows of a table of the log-scale without standard errors, one a replicate."""
    return pd.DataFrame(
        {
            "replicate": np.asarray(replicates, dtype=np.int64),
            "parameter": "log_scale",
            "truth": truth,
            "estimate": estimate,
            "se": np.nan,
            "status": list(status),
        }
    )
