"""Sums over the predicted tokens of every document: what all measures of a domain are smooth functions of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from eeqs.engine.errors import DataError
from eeqs.llm.bits import token_log_probabilities
from eeqs.llm.language_model import LanguageModel
from eeqs.llm.packing import Rows, batches
from eeqs.llm.perturbed import IGNORED

__all__ = ["BINS", "DocumentScores", "score_documents"]

BINS = 15
"""Bins of equal width of the confidence, for calibration."""


@dataclass(frozen=True, eq=False)
class DocumentScores:
    """Sums over the predicted tokens of D documents, float64 arrays.

    Attributes
    ----------
    names : tuple of str
        Ids of the documents, the clusters of all standard errors.
    log_probability : ndarray of shape (D,)
        Natural log-probability.
    n_tokens, n_bytes : ndarray of shape (D,)
        Predicted tokens and the bytes they stand for.
    n_correct : ndarray of shape (D,)
        Tokens that are the most probable one.
    bin_tokens, bin_correct, bin_confidence : ndarray of shape (D, BINS)
        For calibration: tokens, correct tokens and sum of the largest probability, by bin of the largest probability.
    """

    names: tuple[str, ...]
    log_probability: np.ndarray
    n_tokens: np.ndarray
    n_bytes: np.ndarray
    n_correct: np.ndarray
    bin_tokens: np.ndarray
    bin_correct: np.ndarray
    bin_confidence: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    @property
    def bits_per_byte(self) -> float:
        """Code length of all documents together, in bits a byte."""
        return float(-self.log_probability.sum() / (np.log(2) * self.n_bytes.sum()))


@torch.no_grad()
def score_documents(model: LanguageModel, rows: Rows, *, batch_size: int = 16, step: int = 0) -> DocumentScores:
    """Score every predicted token of packed documents.

    Parameters
    ----------
    model : LanguageModel
        On the device of ``rows``; a torch module is scored in evaluation mode and left in the mode it had.
    rows : Rows
        From `eeqs.llm.packing.pack`.
    batch_size : int
        Rows at a time.
    step : int
        Another number gives other draws of the perturbation.

    Returns
    -------
    DocumentScores

    Raises
    ------
    DataError
        A predicted token has no finite log-probability; the document is named.
    """
    training = bool(getattr(model, "training", False))
    if isinstance(model, torch.nn.Module):
        model.eval()
    try:
        parts = [(batch, *_scored(model, batch, step)) for batch in batches(rows, batch_size)]
    finally:
        if isinstance(model, torch.nn.Module):
            model.train(training)
    return _summed(rows, parts)


def _scored(model: LanguageModel, batch: Rows, step: int) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probability, confidence and correctness (B, T) of the labels, at their places."""
    law = model.log_probabilities(
        batch.input_ids, attention_mask=batch.attention_mask, segment_ids=batch.segment_ids, step=step
    )
    log_p = token_log_probabilities(law, batch.labels)
    best, index = law[:, :-1].max(dim=-1)
    confidence = torch.nn.functional.pad(best.exp(), (1, 0))
    correct = torch.nn.functional.pad(index == batch.labels[:, 1:], (1, 0))
    wrong = ~log_p.isfinite() & (batch.labels != IGNORED)
    if bool(wrong.any()):
        name = batch.names[int(batch.document[wrong][0])]
        raise DataError(f'document "{name}" has a token whose log-probability is not finite; check the weights.')
    return log_p, confidence, correct


def _summed(rows: Rows, parts: list[tuple[Rows, Tensor, Tensor, Tensor]]) -> DocumentScores:
    count = len(rows.names)
    sums = np.zeros((4, count))
    bins = np.zeros((3, count, BINS))
    for batch, log_p, confidence, correct in parts:
        kept = (batch.labels != IGNORED).cpu().numpy()
        document = batch.document.cpu().numpy()[kept]
        p, sure, right = (values.double().cpu().numpy()[kept] for values in (log_p, confidence, correct))
        for place, values in ((0, p), (1, np.ones_like(p)), (3, right)):
            np.add.at(sums[place], document, values)
        # A confidence of exactly one belongs to the last bin.
        bin_of = np.minimum((sure * BINS).astype(int), BINS - 1)
        for place, values in enumerate((np.ones_like(p), right, sure)):
            np.add.at(bins[place], (document, bin_of), values)
    sums[2] = rows.n_bytes.cpu().numpy()
    return DocumentScores(rows.names, *sums, *bins)
