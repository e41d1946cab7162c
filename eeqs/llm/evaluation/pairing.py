"""Whether scores are of the same documents, so that their differences are paired."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from eeqs.engine.errors import DataError
from eeqs.llm.evaluation.document_scores import DocumentScores
from eeqs.llm.evaluation.ratio_measures import Measure

__all__ = ["check_methods", "check_paired"]


def check_paired(first: DocumentScores, second: DocumentScores, measure: Measure, what: str) -> None:
    """Raise unless two scores are of the same documents, bytes and, where the measure divides by them, tokens.

    Parameters
    ----------
    first, second : DocumentScores
    measure : Measure
    what : str
        Which two they are, for the message.

    Raises
    ------
    DataError
        Names the first document that differs.
    """
    for place, (one, two) in enumerate(zip(first.names, second.names, strict=False)):
        if one != two:
            raise DataError(
                f'{what}: document {place} is "{one}" in one and "{two}" in the other; score the same ones.'
            )
    if len(first) != len(second):
        longer, at = max(first, second, key=len), min(len(first), len(second))
        raise DataError(
            f'{what}: one has {len(first)} documents, the other {len(second)}; "{longer.names[at]}" is extra.'
        )
    divided = (measure.denominator(first), measure.denominator(second), f"the denominator of {measure.name}")
    for ours, theirs, which in ((first.n_bytes, second.n_bytes, "bytes"), divided):
        differ = np.flatnonzero(ours != theirs)
        if len(differ):
            place = differ[0]
            raise DataError(
                f'{what}: document "{first.names[place]}" has {which} {ours[place]:g} and {theirs[place]:g}; '
                "score the same text, with one tokenizer for a measure a token, or compare bits per byte."
            )


def check_methods(scores: Mapping[str, Mapping[str, Any]], reference: str) -> list[str]:
    """Return the methods other than the reference, having checked that all have its domains.

    Raises
    ------
    DataError
        There is no such reference, no other method, or no domain, or domains differ.
    """
    if reference not in scores:
        raise DataError(f'the reference "{reference}" is not among the methods {list(scores)}.')
    others = [method for method in scores if method != reference]
    domains = list(scores[reference])
    if not others or not domains:
        raise DataError(f"there are {len(others)} methods beside the reference and {len(domains)} domains to compare.")
    for method in others:
        if set(scores[method]) != set(domains):
            odd = min(set(scores[method]) ^ set(domains))
            raise DataError(f'domain "{odd}" is scored by only one of "{method}" and "{reference}"; score both on it.')
    return others
