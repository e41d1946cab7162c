"""The identifiability report."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from eeqs.marginal.identifiability.recommend import Recommendation

__all__ = ["Identifiability"]


@dataclass(frozen=True)
class Identifiability:
    """What a model, a score and a design of draws identify at the values the model holds.

    Attributes
    ----------
    score, draws : str
        Their names.
    n : int
        Embeddings.
    singular_values : Series of length p
        Of the equilibrated bread, in decreasing order.
    condition : float
        The largest over the smallest of them; infinite for a singular bread.
    worst_direction : Series of length p
        Direction of the smallest singular value that is not zero, by parameter name, each in the unit that
        equilibrates its column of the bread; a unit vector.
    unidentified : tuple of str
        Parameters that enter directions along which the equations do not change.
    table : DataFrame
        One row a parameter, and ``worst direction``: ``efficiency`` against the exact score, the share of the
        variance that is ``simulation``, and their standard errors. NaN for what is not identified or not
        available: a biased score has no efficiency, a singular bread and a psi that jumps no simulation share.
    reference : str
        What stood for the exact score.
    recommendation : Recommendation or None
        Draws that reach the target efficiency; None without draws or without a reference.
    warnings : tuple of str
    """

    score: str
    draws: str
    n: int
    singular_values: pd.Series
    condition: float
    worst_direction: pd.Series
    unidentified: tuple[str, ...]
    table: pd.DataFrame
    reference: str
    recommendation: Recommendation | None
    warnings: tuple[str, ...]

    def to_frame(self) -> pd.DataFrame:
        """Table of parameters with their loadings on the worst direction."""
        return self.table.join(self.worst_direction.rename("worst direction"))

    def __str__(self) -> str:
        values = ", ".join(f"{value:.3g}" for value in self.singular_values)
        heaviest = self.worst_direction[self.worst_direction.abs().sort_values(ascending=False).index[:6]]
        loadings = ", ".join(f"{value:+.2f} {name}" for name, value in heaviest.items())
        table = self.table.to_string(float_format="{:.3f}".format, na_rep="-")
        lines = [
            f"{self.score} with draws {self.draws}, {self.n} embeddings",
            f"bread: condition number {self.condition:.3g}, singular values {values}",
            f"worst identified direction: {loadings}",
            f"efficiency against {self.reference}",
            table,
        ]
        if self.recommendation is not None:
            lines.append(f"recommended: {self.recommendation}")
        return "\n".join([*lines, *(f"warning: {text}" for text in self.warnings)])
