"""Small models trained from scratch on SCAN, whose tests are longer or recombine: for the study ``ood``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch

from eeqs.llm import ToyTransformer
from eeqs.llm.backend import Backend
from eeqs.llm.corpus import Document, data_folder
from eeqs.llm.evaluation import DocumentScores, score_documents
from eeqs.llm.language_model import LanguageModel
from eeqs.llm.packing import Rows
from eeqs.llm.scan import VOCABULARY, Example, exact_match, read_scan, scan_rows
from eeqs.llm.training import TrainingText
from simulations.designs.ood_rows import EXACT

__all__ = ["ScanRegime"]

_CONTEXT = 64
_HELD_OUT, _TESTED = 64, 96
_WHOLE = ", " + EXACT


@dataclass(frozen=True)
class ScanRegime:
    """A transformer of two layers, trained on a split of SCAN and tested on commands like and unlike those.

    Attributes
    ----------
    name : str
    split : str
        ``length`` or ``addprim_jump``.
    dim : int
        Embedding dimension.
    """

    name: str
    split: str
    dim: int = 64

    @property
    def domains(self) -> tuple[str, ...]:
        """Test sets: held-out training commands and the split's test, by token and by whole answer."""
        return ("held-out commands", self.split, "held-out commands" + _WHOLE, self.split + _WHOLE)

    def backend(self, seed: int) -> Backend:
        """Draw initial weights."""
        return ToyTransformer(len(VOCABULARY), self.dim, 2, 4, _CONTEXT, generator=torch.Generator().manual_seed(seed))

    def text(self, several: bool) -> TrainingText:
        """Return the training commands, one a row."""
        del several
        examples = {example.id: example for example in self._examples("train")[_HELD_OUT:]}
        documents = [Document(example.id, " ".join(example.command)) for example in examples.values()]

        def encode(chosen: Sequence[Document]) -> list[Example]:
            return [examples[document.id] for document in chosen]

        return TrainingText(documents, encode, _CONTEXT, pack=lambda chosen, *_, **__: scan_rows(chosen))

    def validation(self) -> Rows:
        """Return the held-out training commands."""
        return scan_rows(self._examples("train")[:_HELD_OUT])

    def test(self, model: LanguageModel) -> dict[str, DocumentScores]:
        """Score held-out and test commands."""
        sets = (self._examples("train")[:_HELD_OUT], self._examples("test")[:_TESTED])
        scores = {name: score_documents(model, scan_rows(rows)) for name, rows in zip(self.domains, sets, strict=False)}
        for name, rows in zip(self.domains, sets, strict=False):
            right = np.asarray(exact_match(model, rows), dtype=float)
            scores[name + _WHOLE] = replace(scores[name], n_correct=right, n_tokens=np.ones_like(right))
        return scores

    def _examples(self, part: str) -> Sequence[Example]:
        return _shuffled(self.split, part)


@lru_cache(maxsize=8)
def _shuffled(split: str, part: str) -> Sequence[Example]:
    """Read a file in a random order that is always the same."""
    examples = read_scan(data_folder() / "scan" / f"tasks_{part}_{split}.txt")
    fitting = [example for example in examples if len(example.prompt) + len(example.answer) <= _CONTEXT]
    if len(fitting) < len(examples):
        raise ValueError(f"{split}: an example is longer than {_CONTEXT} tokens")
    order = torch.randperm(len(examples), generator=torch.Generator().manual_seed(0)).tolist()
    return [examples[index] for index in order]
