"""Measures and paired differences over training seeds, the second level of variation beside documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch

from eeqs.engine.errors import DataError
from eeqs.llm.evaluation.crossed import Crossed, crossed
from eeqs.llm.evaluation.document_scores import DocumentScores
from eeqs.llm.evaluation.pairing import check_methods, check_paired
from eeqs.llm.evaluation.ratio_measures import (
    RATIO_MEASURES,
    ClusterOf,
    Measure,
    bits_per_byte,
    fit_ratios,
    labels_of,
)

__all__ = ["compare_over_seeds", "evaluate_over_seeds"]

Runs = Sequence[DocumentScores]


def evaluate_over_seeds(
    runs: Mapping[str, Runs],
    measures: Sequence[Measure] = RATIO_MEASURES,
    *,
    alpha: float = 0.05,
    cluster: ClusterOf | None = None,
) -> pd.DataFrame:
    """Mean of measures over training seeds, with the variation of documents and of seeds.

    Parameters
    ----------
    runs : mapping of str to sequence of DocumentScores
        By domain, one member a seed, all on the same documents.
    measures : sequence of Measure
    alpha : float
    cluster : callable, optional
        As in `eeqs.llm.evaluation.evaluate`.

    Returns
    -------
    DataFrame
        One row a domain and measure: ``estimate``, ``se_documents``, ``se_seeds``, ``se`` (both), ``df``, ``seed_sd``,
        ``low`` and ``high`` for new seeds and documents, ``n_documents``, ``n_seeds``. See `Crossed`.

    Raises
    ------
    DataError
        A domain has one seed only, or seeds differ in their documents.
    """
    rows = []
    for domain, found in runs.items():
        for measure in measures:
            names = [f"seed {seed} on {domain}" for seed in range(len(found))]
            result = _over(found, names, measure, cluster, torch.eye(len(found), dtype=torch.float64))
            rows.append({"domain": domain, "measure": measure.name, **_columns(result, alpha, found)})
    return pd.DataFrame(rows)


def compare_over_seeds(
    runs: Mapping[str, Mapping[str, Runs]],
    reference: str,
    measure: Measure = bits_per_byte,
    *,
    alpha: float = 0.05,
    cluster: ClusterOf | None = None,
) -> pd.DataFrame:
    """Difference of a measure between methods, paired by document and by seed.

    Parameters
    ----------
    runs : mapping of str to mapping of str to sequence of DocumentScores
        ``runs[method][domain][seed]``. Seed s of a method is compared with seed s of the reference; where seeds of
        different methods have nothing in common this is valid too, with fewer degrees of freedom than possible.
    reference : str
        The method that is subtracted.
    measure : Measure
    alpha : float
    cluster : callable, optional
        As in `eeqs.llm.evaluation.evaluate`.

    Returns
    -------
    DataFrame
        As `evaluate_over_seeds`, with ``method`` and ``reference``; ``simultaneous_low`` and ``simultaneous_high`` hold
        for all domains of a method at once, by Bonferroni's inequality: domains share their seeds, and a few seeds do
        not tell how far that makes them dependent.

    Raises
    ------
    DataError
        Methods differ in domains, number of seeds or documents, or there is one seed only.
    """
    rows = []
    for method in check_methods(runs, reference):
        for domain, base in runs[reference].items():
            ours = runs[method][domain]
            if len(ours) != len(base):
                raise DataError(f'{domain}: "{method}" has {len(ours)} seeds, "{reference}" {len(base)}; pair them.')
            names = [f'seed {s} of "{which}" on {domain}' for which in (method, reference) for s in range(len(base))]
            unit = torch.eye(len(base), dtype=torch.float64)
            result = _over([*ours, *base], names, measure, cluster, torch.cat([unit, -unit], dim=1))
            low, high = result.interval(alpha / len(runs[reference]))
            key = {"method": method, "reference": reference, "domain": domain, "measure": measure.name}
            both = {"simultaneous_low": low, "simultaneous_high": high}
            rows.append({**key, **_columns(result, alpha, base), **both})
    return pd.DataFrame(rows)


def _over(
    runs: Runs, names: Sequence[str], measure: Measure, cluster: ClusterOf | None, combine: torch.Tensor
) -> Crossed:
    """Combine the measures of runs by a matrix (S, runs), whose rows belong to the seeds."""
    if len(combine) < 2:
        raise DataError(f"{names[0]}: there is one seed; the variation between seeds needs two or more.")
    for other, name in zip(runs[1:], names[1:], strict=True):
        check_paired(runs[0], other, measure, f"{names[0]} and {name}")
    numerator, denominator = (
        np.column_stack([read(one) for one in runs]) for read in (measure.numerator, measure.denominator)
    )
    fit = fit_ratios(numerator, denominator, labels_of(runs[0], cluster), names)
    derived = fit.delta(lambda theta: combine @ measure.value(theta))
    return crossed(derived.theta.numpy(), derived.covariance.numpy(), int(fit.df_clusters) + 1)


def _columns(result: Crossed, alpha: float, runs: Runs) -> dict[str, float]:
    low, high = result.interval(alpha)
    return {
        "estimate": result.estimate,
        "se_documents": result.se_documents,
        "se_seeds": result.se_seeds,
        "se": result.se,
        "df": result.df,
        "seed_sd": result.seed_sd,
        "low": low,
        "high": high,
        "n_documents": len(runs[0]),
        "n_seeds": len(runs),
    }
