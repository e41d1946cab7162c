r"""Measures of a language model that are ratios of sums over documents, estimated with documents as clusters.

A ratio :math:`\hat\theta = \sum_d y_d / \sum_d x_d` is the root of :math:`\psi_d = y_d - \theta x_d`, a row a document,
so that ratios of one set of documents, of several measures, methods or seeds, share a sandwich covariance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from eeqs.engine.covariance import Cluster
from eeqs.engine.errors import DataError
from eeqs.engine.inference import Estimate, estimate
from eeqs.engine.psi import EstimatingFunction
from eeqs.llm.evaluation.document_scores import DocumentScores

__all__ = [
    "RATIO_MEASURES",
    "ClusterOf",
    "Measure",
    "accuracy",
    "bits_per_byte",
    "calibration_in_the_large",
    "fit_ratios",
    "labels_of",
    "perplexity",
]

ClusterOf = Callable[[str], str]
"""From the id of a document to the label of its cluster; documents with one label may depend on each other."""


@dataclass(frozen=True)
class Measure:
    r"""A function of a ratio of sums over documents, :math:`h(\sum_d y_d / \sum_d x_d)`.

    Attributes
    ----------
    name : str
    numerator, denominator : callable
        From `DocumentScores` to :math:`y` and :math:`x`, each (D,).
    value : callable
        The increasing function h, in torch operations.
    """

    name: str
    numerator: Callable[[DocumentScores], np.ndarray]
    denominator: Callable[[DocumentScores], np.ndarray]
    value: Callable[[Tensor], Tensor] = torch.Tensor.clone


def _tokens(scores: DocumentScores) -> np.ndarray:
    return scores.n_tokens


perplexity = Measure("perplexity", lambda scores: -scores.log_probability, _tokens, torch.exp)
r"""Of a token, :math:`\exp(-\sum \log q / \text{tokens})`; its intervals are those of the logarithm, exponentiated."""

bits_per_byte = Measure(
    "bits_per_byte", lambda scores: -scores.log_probability / np.log(2), lambda scores: scores.n_bytes
)
r"""Code length, :math:`-\sum \log_2 q / \text{bytes}`, comparable between tokenizers."""

accuracy = Measure("accuracy", lambda scores: scores.n_correct, _tokens)
"""Share of tokens that the model finds the most probable."""

calibration_in_the_large = Measure(
    "calibration_in_the_large",
    lambda scores: (scores.bin_confidence - scores.bin_correct).sum(axis=1),
    _tokens,
)
"""Mean of the largest probability, minus the accuracy: positive where a model is too sure of itself."""

RATIO_MEASURES = (perplexity, bits_per_byte, accuracy, calibration_in_the_large)


def fit_ratios(
    numerator: np.ndarray, denominator: np.ndarray, clusters: Sequence[str], names: Sequence[str]
) -> Estimate:
    r"""Ratios :math:`\sum_i y_{ij} / \sum_i x_{ij}`, with their joint cluster-robust covariance.

    Parameters
    ----------
    numerator, denominator : ndarray of shape (n, p)
    clusters : sequence of str
        Label (n,) of every row.
    names : sequence of str
        Of the p ratios.

    Returns
    -------
    Estimate
        With the CR2 covariance, which allows for the weight of large documents in small samples (with documents of one
        size it is the factor G / (G - 1)), and the t distribution of G - 1 degrees of freedom, G clusters.

    Raises
    ------
    DataError
        There are fewer than two clusters, or a denominator has sum zero.

    References
    ----------
    Bell & McCaffrey (2002) Survey Methodology 28; Pustejovsky & Tipton (2018) JBES 36.
    """
    if len(set(clusters)) < 2:
        raise DataError(f"{names[0]}: there is one cluster of documents; a standard error needs two or more.")
    empty = np.flatnonzero(denominator.sum(axis=0) <= 0)
    if len(empty):
        raise DataError(f"{names[empty[0]]} divides by a sum of zero: no token is predicted.")
    psi = EstimatingFunction(
        lambda theta, data: data["y"] - theta * data["x"],
        tuple(names),
        ("y", "x"),
        start=lambda data: data["y"].sum(dim=-2) / data["x"].sum(dim=-2),
        mean_jacobian=lambda _, data: -torch.diag(data["x"].mean(dim=0)),
    )
    data = {"y": numerator, "x": denominator, "cluster": np.array(clusters, dtype=object)}
    fit = estimate(psi, data, cov=Cluster("cluster", "CR2"))
    return fit.with_df(fit.df_clusters)


def labels_of(scores: DocumentScores, cluster: ClusterOf | None) -> list[str]:
    """Cluster label of every document: its id, unless ``cluster`` says otherwise."""
    return [name if cluster is None else cluster(name) for name in scores.names]
