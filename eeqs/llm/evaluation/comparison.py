"""Paired differences between methods on the same documents, with intervals that hold for all domains at once."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from scipy import special
from torch import Tensor

from eeqs.engine.inference import DerivedEstimate
from eeqs.llm.evaluation.document_scores import DocumentScores
from eeqs.llm.evaluation.pairing import check_methods, check_paired
from eeqs.llm.evaluation.ratio_measures import ClusterOf, Measure, bits_per_byte, fit_ratios, labels_of

__all__ = ["compare"]

Scores = Mapping[str, Mapping[str, DocumentScores]]


def compare(
    scores: Scores,
    reference: str,
    measure: Measure = bits_per_byte,
    *,
    over_methods: bool = False,
    cluster: ClusterOf | None = None,
    alpha: float = 0.05,
    seed: int = 0,
) -> pd.DataFrame:
    r"""Difference of a measure between every method and a reference, in every domain.

    Parameters
    ----------
    scores : mapping of str to mapping of str to DocumentScores
        ``scores[method][domain]``; all methods on the same documents in the same order.
    reference : str
        The method that is subtracted.
    measure : Measure
        Of `eeqs.llm.evaluation.ratio_measures`.
    over_methods : bool
        Whether intervals hold for all methods and domains together, and not for the domains of each method.
    cluster : callable, optional
        From the id of a document to the label of its cluster. Domains that share labels, such as two translations of
        the same texts, are then dependent, and their covariance is estimated; otherwise domains are independent.
    alpha : float
        Simultaneous level is ``1 - alpha``.
    seed : int
        Of the integration of the critical value.

    Returns
    -------
    DataFrame
        One row a method and domain: ``method``, ``reference``, ``domain``, ``measure``, ``estimate`` (method minus
        reference), ``se``, pointwise ``low`` and ``high``, ``simultaneous_low`` and ``simultaneous_high``,
        ``n_documents``.

    Raises
    ------
    DataError
        Methods differ in domains, documents, bytes, or denominators of the measure; the first mismatch is named.

    Notes
    -----
    Covariances are CR2, see `fit_ratios`. Pointwise intervals use t with the clusters of the domain minus one.
    Simultaneous ones use the same t at another level: that at which normal intervals with the estimated correlations
    hold together, from the sup-t critical value c (Montiel Olea & Plagborg-Moller 2019, J. Appl. Econometrics 34),
    :math:`2 \Phi(-c)`. For independent domains it is Sidak's :math:`1 - (1 - \alpha)^{1/m}`. The multivariate t has one
    denominator for all estimates, and would be too narrow for domains whose standard errors are independent.
    """
    methods = check_methods(scores, reference)
    for domain, ours in scores[reference].items():
        for method in methods:
            check_paired(ours, scores[method][domain], measure, f'"{reference}" and "{method}" on {domain}')
    groups = _dependent(scores[reference], cluster)
    parts = [_differences(scores, [reference, *methods], domains, measure, cluster) for domains in groups]
    keys = [(method, domain) for domains in groups for domain in domains for method in methods]
    value, covariance = torch.cat([part.theta for part in parts]), torch.block_diag(*(p.covariance for p in parts))
    # In the order in which methods and domains were passed, and not in that of the groups.
    order = [keys.index((method, domain)) for method in methods for domain in scores[reference]]
    value, covariance = value[order], covariance[order][:, order]
    table = _table([keys[place] for place in order], value, covariance, scores[reference], cluster, alpha)
    table.insert(1, "reference", reference)
    table.insert(3, "measure", measure.name)
    count = len(scores[reference])
    families = [slice(None)] if over_methods else [slice(k * count, (k + 1) * count) for k in range(len(methods))]
    levels = np.concatenate([_level(value[rows], covariance[rows, rows], alpha, seed) for rows in families])
    df = np.array([_df(scores[reference][domain], cluster) for domain in table["domain"]])
    half = -special.stdtrit(df, levels / 2) * table["se"]
    table["simultaneous_low"], table["simultaneous_high"] = table["estimate"] - half, table["estimate"] + half
    return table


def _table(
    keys: list[tuple[str, str]],
    value: Tensor,
    covariance: Tensor,
    domains: Mapping[str, DocumentScores],
    cluster: ClusterOf | None,
    alpha: float,
) -> pd.DataFrame:
    """Estimates with pointwise intervals, each with the degrees of freedom of its domain."""
    rows = []
    for place, (method, domain) in enumerate(keys):
        at = slice(place, place + 1)
        one = DerivedEstimate(value[at], covariance[at, at], ("difference",), _df(domains[domain], cluster))
        numbers = (one.params.iloc[0], one.bse.iloc[0], *one.conf_int(alpha).iloc[0])
        rows.append((method, domain, *numbers, len(domains[domain])))
    return pd.DataFrame(rows, columns=["method", "domain", "estimate", "se", "low", "high", "n_documents"])


def _df(scores: DocumentScores, cluster: ClusterOf | None) -> float:
    """Clusters minus one."""
    return float(len(set(labels_of(scores, cluster))) - 1)


def _dependent(domains: Mapping[str, DocumentScores], cluster: ClusterOf | None) -> list[list[str]]:
    """Group domains that share clusters; every domain is alone where each document is a cluster."""
    groups: list[tuple[list[str], set[str]]] = []
    for domain, scores in domains.items():
        labels = set(labels_of(scores, cluster))
        linked = [group for group in groups if cluster is not None and group[1] & labels]
        groups = [group for group in groups if group not in linked]
        names = [name for group in linked for name in group[0]]
        groups.append(([*names, domain], labels.union(*(group[1] for group in linked))))
    return [names for names, _ in groups]


def _differences(
    scores: Scores, columns: list[str], domains: list[str], measure: Measure, cluster: ClusterOf | None
) -> DerivedEstimate:
    """Differences from the first column, by domain and then by method, with the covariance of dependent domains."""
    ours = [scores[columns[0]][domain] for domain in domains]
    offsets, width = np.cumsum([0, *(len(one) for one in ours)]), len(columns)
    # A document of one domain is a row of zeros for the others.
    numerator, denominator = np.zeros((2, offsets[-1], width * len(domains)))
    for place, domain in enumerate(domains):
        rows = slice(offsets[place], offsets[place + 1])
        for column, method in enumerate(columns):
            found = scores[method][domain]
            numerator[rows, place * width + column] = measure.numerator(found)
            denominator[rows, place * width + column] = measure.denominator(found)
    labels = [label for one in ours for label in labels_of(one, cluster)]
    names = [f"{method} on {domain}: {measure.name}" for domain in domains for method in columns]

    def differences(theta: Tensor) -> Tensor:
        values = measure.value(theta).unflatten(0, (len(domains), width))
        return (values[:, 1:] - values[:, :1]).flatten()

    return fit_ratios(numerator, denominator, labels, names).delta(differences)


def _level(value: Tensor, covariance: Tensor, alpha: float, seed: int) -> np.ndarray:
    """Level of every one of m intervals (m,) at which they hold together."""
    if not bool((covariance.diagonal() > 0).any()):  # methods do not differ at all
        return np.full(len(value), alpha)
    names = tuple(f"difference[{k}]" for k in range(len(value)))
    critical = DerivedEstimate(value, covariance, names).simultaneous(alpha, seed=seed).critical
    return np.full(len(value), 2 * special.ndtr(-critical))
