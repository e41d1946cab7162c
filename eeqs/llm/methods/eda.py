"""EDA: documents with words replaced, inserted, swapped or deleted, beside the original ones."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from eeqs.engine.errors import DataError
from eeqs.llm.corpus import VARIABLE, Document
from eeqs.llm.methods.method import Method, equations_of_one_sample
from eeqs.llm.methods.sentences import rewritten, sentences
from eeqs.marginal.discrete.eda import EDA
from eeqs.marginal.discrete.settings import check_count, check_rate
from eeqs.marginal.discrete.synonyms import read_synonyms
from eeqs.marginal.perturbations.identity import Identity

__all__ = ["augmented", "eda", "published_setting", "wordnet_synonyms"]

_FILE = "wordnet_synonyms.tsv.gz"


def eda(synonyms: Mapping[str, Sequence[str]], *, alpha: float | None = None, copies: int | None = None) -> Method:
    """Plain training on the documents and on random rewritings of them, new ones every epoch.

    Parameters
    ----------
    synonyms : mapping of str to sequence of str
        In lower case: `wordnet_synonyms`, or `eeqs.marginal.discrete.read_synonyms` of a file.
    alpha : float, optional
        Share of the words of a sentence that is edited; `published_setting` without it.
    copies : int, optional
        Rewritings of a document; `published_setting` without it.

    References
    ----------
    Wei & Zou (2019) EDA: easy data augmentation techniques for boosting performance on text classification tasks,
    EMNLP-IJCNLP.
    """
    if alpha is not None:
        check_rate("alpha", alpha)
    if copies is not None:
        check_count("copies", copies, 1)

    def rewrite(documents: Sequence[Document], rng: np.random.Generator) -> list[Document]:
        usual, often = published_setting(sum(len(sentences(document.text)) for document in documents))
        return augmented(documents, synonyms, usual if alpha is None else alpha, copies or often, rng)

    return Method(
        "eda",
        "plain training on documents and their rewritings by EDA",
        lambda backend, _: Identity(backend.dim),
        equations_of_one_sample(),
        inference_draws=1,
        rewrite=rewrite,
    )


def augmented(
    documents: Sequence[Document],
    synonyms: Mapping[str, Sequence[str]],
    alpha: float,
    copies: int,
    rng: np.random.Generator,
) -> list[Document]:
    """Follow each document by so many rewritings, every sentence with one of the four operations, drawn at random.

    Text between words stays where it is, but that a deleted word takes the blank beside it along and an inserted one
    brings one. At alpha zero the copies are exact.
    """
    operation = EDA(synonyms, alpha, alpha, alpha, alpha)
    result = []
    for document in documents:
        pieces = sentences(document.text)
        result.append(document)
        for copy in range(1, copies + 1):
            text = "".join(rewritten(piece, operation, rng) for piece in pieces)
            result.append(Document(f"{document.id} (EDA {copy})", text))
    return result


def published_setting(n_sentences: int) -> tuple[float, int]:
    """Alpha and number of rewritings that the paper (table 3) recommends for so many training sentences."""
    if n_sentences <= 500:
        return 0.05, 16
    return (0.05, 8) if n_sentences <= 2000 else (0.1, 4)


def wordnet_synonyms() -> dict[str, tuple[str, ...]]:
    """Read the synonyms of Open English WordNet from the folder that the environment variable EEQS_DATA names.

    Raises
    ------
    DataError
        EEQS_DATA is not set, or its folder does not have the file.
    """
    folder = os.environ.get(VARIABLE)
    if not folder or not (path := Path(folder) / _FILE).is_file():
        raise DataError(
            f'{VARIABLE} is {folder or "not set"}; set it to a folder that holds "{_FILE}", or read a file of synonyms '
            "with eeqs.marginal.discrete.read_synonyms."
        )
    return read_synonyms(path)
