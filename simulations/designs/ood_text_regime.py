"""Language models trained on little or all of WikiText-2, for the study ``ood``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from eeqs.llm.backend import Backend
from eeqs.llm.corpus import Document
from eeqs.llm.evaluation import DocumentScores, score_documents
from eeqs.llm.language_model import LanguageModel
from eeqs.llm.packing import Rows, pack
from eeqs.llm.training import TrainingText
from simulations.designs.ood_bases import Base
from simulations.designs.ood_methods import LENGTH
from simulations.designs.ood_text import DOMAINS, train_documents, validation_documents

__all__ = ["TextRegime"]

_TEST_DOCUMENTS, _TEST_BYTES = 32, 500


@dataclass(frozen=True)
class TextRegime:
    """A model trained on WikiText-2 and tested on six domains.

    Attributes
    ----------
    name : str
    base : Base
        The model before training, and its tokenizer.
    train_bytes : int, optional
        Bytes of training text; all without it.
    document_bytes : int
        Where they are limited: bytes of an article.
    validation_documents : int
        Articles that choose when to stop, cut like the test documents.
    """

    name: str
    base: Base
    train_bytes: int | None
    document_bytes: int = 3000
    validation_documents: int = 24

    @property
    def domains(self) -> tuple[str, ...]:
        """Names of the test sets, the first from the domain of the training text."""
        return tuple(domain.name for domain in DOMAINS)

    def backend(self, seed: int) -> Backend:
        """Return the model before training."""
        return self.base.backend(seed)

    def text(self, several: bool) -> TrainingText:
        """Return the training documents."""
        documents = train_documents(self.train_bytes, self.document_bytes)
        return TrainingText(documents, self.base.encode, LENGTH, several)

    def validation(self) -> Rows:
        """Return the validation documents, one a row."""
        return self._rows(validation_documents(self.validation_documents, _TEST_BYTES))

    def test(self, model: LanguageModel) -> dict[str, DocumentScores]:
        """Score the test documents of every domain."""
        device = next(model.parameters()).device if isinstance(model, nn.Module) else "cpu"
        return {
            domain.name: score_documents(model, self._rows(domain.documents(_TEST_DOCUMENTS, _TEST_BYTES)).to(device))
            for domain in DOMAINS
        }

    def _rows(self, documents: Sequence[Document]) -> Rows:
        return pack(self.base.encode(documents), LENGTH, several=False)
