"""From sums over documents to a table of measures with document-clustered standard errors."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch

from eeqs.engine.errors import DataError
from eeqs.engine.inference import Estimate
from eeqs.llm.evaluation.calibration import calibration_error
from eeqs.llm.evaluation.document_scores import DocumentScores
from eeqs.llm.evaluation.ratio_measures import RATIO_MEASURES, ClusterOf, Measure, fit_ratios, labels_of

__all__ = ["COLUMNS", "evaluate"]

COLUMNS = ["measure", "estimate", "se", "low", "high", "n_documents"]
"""Columns of a table of measures; ``low`` and ``high`` are an interval."""


def evaluate(
    scores: DocumentScores | Mapping[str, DocumentScores], *, alpha: float = 0.05, cluster: ClusterOf | None = None
) -> pd.DataFrame:
    """Perplexity, bits per byte, accuracy and calibration of a model on one or several domains.

    Parameters
    ----------
    scores : DocumentScores, or mapping of str to DocumentScores
        Of one domain, or of several by name.
    alpha : float
        Intervals are of level ``1 - alpha``.
    cluster : callable, optional
        From the id of a document to the label of a cluster of documents that depend on each other, as the paragraphs of
        an article do. Otherwise every document is a cluster.

    Returns
    -------
    DataFrame
        Columns ``measure``, ``estimate``, ``se``, ``low``, ``high``, ``n_documents``, after ``domain`` for several. The
        measures are those of `RATIO_MEASURES`, whose standard errors are by the delta method from one clustered
        sandwich (see `fit_ratios`), and ``calibration_error``, whose interval is not: see `calibration_error`.

    Raises
    ------
    DataError
        A domain has fewer than two clusters, or no predicted tokens.
    """
    if isinstance(scores, DocumentScores):
        return pd.DataFrame(_rows(scores, "all documents", alpha, cluster), columns=COLUMNS)
    if not scores:
        raise DataError("there is no domain to evaluate.")
    rows = [(domain, *row) for domain, found in scores.items() for row in _rows(found, domain, alpha, cluster)]
    return pd.DataFrame(rows, columns=["domain", *COLUMNS])


def _rows(scores: DocumentScores, domain: str, alpha: float, cluster: ClusterOf | None) -> list[tuple]:
    """Rows of the table of one domain, in the order of `COLUMNS`."""
    bins = np.flatnonzero(scores.bin_tokens.sum(axis=0) > 0)
    gaps = (scores.bin_confidence - scores.bin_correct)[:, bins]
    numerator = np.column_stack([*(measure.numerator(scores) for measure in RATIO_MEASURES), gaps])
    tokens = np.broadcast_to(scores.n_tokens[:, None], gaps.shape)
    denominator = np.column_stack([*(measure.denominator(scores) for measure in RATIO_MEASURES), tokens])
    names = [f"{domain}: {name}" for name in [*(m.name for m in RATIO_MEASURES), *(f"bin {b}" for b in bins)]]
    fit = fit_ratios(numerator, denominator, labels_of(scores, cluster), names)
    rows = [(*_row(fit, place, measure, alpha), len(scores)) for place, measure in enumerate(RATIO_MEASURES)]
    first = len(RATIO_MEASURES)
    found = calibration_error(
        fit.params.to_numpy()[first:],
        fit.cov_params().to_numpy()[first:, first:],
        int(fit.df_clusters) + 1,
        alpha=alpha,
    )
    return [*rows, ("calibration_error", found.estimate, found.se, found.low, found.high, len(scores))]


def _row(fit: Estimate, place: int, measure: Measure, alpha: float) -> tuple[str, float, float, float, float]:
    """Name, estimate, standard error and interval of a measure; the interval is that of the ratio, mapped."""
    derived = fit.delta(lambda theta: measure.value(theta[place]))
    ends = torch.from_numpy(fit.conf_int(alpha).to_numpy()[place].copy())
    low, high = measure.value(ends).tolist()
    return measure.name, float(derived.params.iloc[0]), float(derived.bse.iloc[0]), low, high
