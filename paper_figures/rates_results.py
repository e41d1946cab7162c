"""The study ``rates`` as its figures see it: roots only, and what its preset fixed."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from paper_figures.results import Results
from simulations.studies.rates import ROOT, STUDY, Size

__all__ = ["SYMBOLS", "RatesResults"]

SYMBOLS = {"log_scale": r"log-scale $\phi$"}


@dataclass(frozen=True)
class RatesResults:
    """Roots of a finished run of the study ``rates``.

    Attributes
    ----------
    results : Results
        The run.
    """

    results: Results

    @property
    def size(self) -> Size:
        """What the preset ran."""
        return STUDY.size(self.results.preset)

    @property
    def parameters(self) -> list[str]:
        """Parameter names."""
        return sorted(self.results.table["parameter"].unique())

    @property
    def draws(self) -> tuple[int, ...]:
        """Numbers of draws of the grid."""
        return STUDY.draws

    @property
    def sizes(self) -> list[float]:
        """Sample sizes of the grid."""
        return [float(n) for n in self.size.sizes]

    def measure(self, name: str, **levels: str | float) -> pd.DataFrame:
        """Values of one measure of the roots where the given columns have the given levels."""
        return self.results.measure(name, quantity=ROOT, **levels)

    def roots(self, **levels: str | float) -> pd.DataFrame:
        """Replicates where the given columns have the given levels."""
        return self.results.rows(quantity=ROOT, **levels)
