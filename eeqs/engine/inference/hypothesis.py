"""The outcome of a test, whichever kind, and how users name what they test."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

__all__ = ["HypothesisTest", "positions"]


@dataclass(frozen=True)
class HypothesisTest:
    """Outcome of a Wald, score or distance test.

    Attributes
    ----------
    method : str
        The test and its reference distribution, for instance "Wald, chi2(2)".
    statistic : float
        On the scale of that distribution: the F statistic is the quadratic form divided by ``restrictions``.
    restrictions : int
        Number of restrictions m.
    pvalue : float
    df : float or None
        Denominator degrees of freedom of an F statistic.
    weights : tuple of float or None
        For a sum of weighted chi-square variables, the weights.
    """

    method: str
    statistic: float
    restrictions: int
    pvalue: float
    df: float | None = None
    weights: tuple[float, ...] | None = None

    @property
    def svalue(self) -> float:
        """Bits of information against the hypothesis, minus log2 of the p-value (Greenland 2019)."""
        return float(-np.log2(self.pvalue)) if self.pvalue > 0 else np.inf

    def __str__(self) -> str:
        return f"{self.method}: statistic {self.statistic:.6g}, p-value {self.pvalue:.4g}"


def positions(wanted: Iterable[str], names: tuple[str, ...]) -> list[int]:
    """Positions of parameters by name.

    Raises
    ------
    ValueError
        If there are none, one is unknown, or one occurs twice.
    """
    asked = list(wanted)
    if not asked:
        raise ValueError(f"no parameters are named; the fit has {list(names)}.")
    for name in asked:
        if name not in names:
            close = difflib.get_close_matches(str(name), names, n=1)
            hint = f'did you mean "{close[0]}"?' if close else f"the fit has {list(names)}."
            raise ValueError(f'unknown parameter "{name}"; {hint}')
        if asked.count(name) > 1:
            raise ValueError(f'parameter "{name}" is named twice.')
    return [names.index(name) for name in asked]
