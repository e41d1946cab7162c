"""Documents of a small perturbed transformer, as rows that a corpus would give."""

import torch

from eeqs.llm.packing import Rows, pack
from eeqs.llm.perturbed import IGNORED
from eeqs.llm.tokens import TokenisedDocument
from simulations.designs.perturbed_text import PerturbedText

DESIGN = PerturbedText()


def documents(n: int, design: PerturbedText = DESIGN, seed: int = 0) -> list[TokenisedDocument]:
    """Sample documents of differing length."""
    data = design.sample(n, torch.Generator().manual_seed(seed))
    lengths = 1 + (data["labels"] != IGNORED).sum(dim=1)
    return [
        TokenisedDocument(f"d{k}", ids[:length], int(length))
        for k, (ids, length) in enumerate(zip(data["input_ids"], lengths, strict=True))
    ]


def packed(n: int, length: int = 12, *, several: bool = True, seed: int = 0, overlap: int = 0) -> Rows:
    """Sample and pack them."""
    return pack(documents(n, seed=seed), length, several=several, overlap=overlap)
