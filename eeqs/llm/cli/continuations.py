"""Continue the beginnings of documents, and compare the continuations with the text that they replace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from scipy.stats import norm
from torch import Tensor

from eeqs.engine.errors import DataError
from eeqs.llm.cli import kernels
from eeqs.llm.cli.console import note
from eeqs.llm.cli.opened import Opened, opened
from eeqs.llm.cli.text import Corpus
from eeqs.llm.evaluation import Sampling, generate, mauve, rouge_1, rouge_1_mean, sequence_features
from eeqs.llm.evaluation.measures import COLUMNS

__all__ = ["Continuations", "generation_measures"]

_INTERVAL = float(norm.ppf(0.975))


@dataclass(frozen=True)
class Continuations:
    """How documents are continued.

    Parameters
    ----------
    prompt, length : int
        Tokens of a document that are given, that of the beginning among them, and that are generated after them.
    seed : int
        Of latents and tokens.
    features : str, optional
        Model, or directory of a run, whose hidden states are the features of MAUVE; there is none without it.
    """

    prompt: int
    length: int
    seed: int = 0
    features: str | None = None


def generation_measures(one: Opened, corpora: Sequence[Corpus], asked: Continuations, device: str) -> pd.DataFrame:
    """ROUGE-1 and MAUVE of sampled continuations by domain, in the columns of `eeqs.llm.evaluation.evaluate`.

    The reference is the text that follows the prompt, as many tokens of it as are generated. ``mauve`` is a mean over
    seeds of k-means with a standard error over documents, ``mauve_seed_sd`` its standard deviation over those seeds.

    Raises
    ------
    DataError
        Fewer than two documents of a domain are long enough, or a model reads fewer tokens.
    """
    total = asked.prompt + asked.length
    kernels.check_length(one.model.backend.model, total, "--prompt-tokens and --generate")  # type: ignore[attr-defined]
    judge = opened(asked.features, device) if asked.features else None
    rows = []
    for corpus in corpora:
        documents = [d for d in one.vocabulary.telling(corpus.name)(corpus.documents) if len(d.ids) >= total]
        if len(documents) < 2:
            raise DataError(
                f"{corpus.name}: {len(documents)} of {len(corpus.documents)} documents have {total} tokens, which "
                "--prompt-tokens and --generate ask for; ask for fewer."
            )
        note(f"{one.label}: continuing {len(documents)} of {len(corpus.documents)} documents of {corpus.name}")
        prompts = [d.ids[: asked.prompt].to(device) for d in documents]
        sampling = Sampling(asked.length, stop=one.vocabulary.stop)
        found = generate(one.model, prompts, sampling, seed=asked.seed)
        given = [d.ids[: asked.prompt].tolist() for d in documents]
        model = [one.vocabulary.text(more.tolist()) for more in found]
        human = [one.vocabulary.text(d.ids[asked.prompt : total].tolist()) for d in documents]
        names = [d.id for d in documents]
        rows += [(corpus.name, *row) for row in rouge_1_mean(rouge_1(model, human, names)).to_numpy().tolist()]
        if judge is not None:
            before = [one.vocabulary.text(ids) for ids in given]
            rows += [(corpus.name, *row) for row in _mauve(judge, before, human, model, names, device)]
    return pd.DataFrame(rows, columns=["domain", *COLUMNS])


def _mauve(
    judge: Opened, before: list[str], human: list[str], model: list[str], names: list[str], device: str
) -> list[tuple]:
    """Rows of MAUVE; features are those of prompt and continuation together."""

    def sequences(after: list[str]) -> list[Tensor]:
        found = [judge.vocabulary.ids(a + b) for a, b in zip(before, after, strict=True)]
        kernels.check_length(judge.model.backend.model, max(map(len, found)), "a text for --features")  # type: ignore[attr-defined]
        return [torch.tensor(ids, device=device) for ids in found]

    features = [sequence_features(judge.model.backend, sequences(after)) for after in (human, model)]
    found = mauve(*features, documents=(names, names))
    half, nan = _INTERVAL * found.se, float("nan")
    return [
        ("mauve", found.mean, found.se, found.mean - half, found.mean + half, len(names)),
        ("mauve_seed_sd", found.sd, nan, nan, nan, len(names)),
    ]
