"""Checks of the settings that members share, and the published number of edits."""

from __future__ import annotations

from numbers import Integral, Real

__all__ = ["check_count", "check_rate", "n_edits"]


def check_rate(name: str, value: float) -> None:
    """Raise unless ``value`` is a number in [0, 1], naming the setting."""
    if not isinstance(value, Real):
        raise TypeError(f"{name} is a {type(value).__name__}; pass a number in [0, 1].")
    if not 0 <= value <= 1:
        raise ValueError(f"{name} is {value}; pass a number in [0, 1].")


def check_count(name: str, value: int, least: int) -> None:
    """Raise unless ``value`` is an integer of at least ``least``, naming the setting."""
    if not isinstance(value, Integral):
        raise TypeError(f"{name} is a {type(value).__name__}; pass an integer of at least {least}.")
    if value < least:
        raise ValueError(f"{name} is {value}; pass an integer of at least {least}.")


def n_edits(alpha: float, length: int) -> int:
    r"""Edits in a sentence, :math:`\max(1, \lfloor \alpha L \rfloor)`, and none at alpha = 0 (Wei & Zou 2019)."""
    return max(1, int(alpha * length)) if alpha else 0
