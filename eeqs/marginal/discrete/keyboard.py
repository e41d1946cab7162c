"""Which keys lie next to each other, from the geometry of the rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import hypot
from types import MappingProxyType

__all__ = ["QWERTY", "adjacent_keys"]

# Key widths between the centres of two keys that touch: one in a row, hypot(3/4, 1) = 5/4 at most across rows.
_REACH = 1.25


def adjacent_keys(rows: Sequence[str], offsets: Sequence[float]) -> Mapping[str, str]:
    """Map every letter to the letters on adjacent keys, in the order of the rows.

    Parameters
    ----------
    rows : sequence of str
        Letters of each row in lower case, from the top.
    offsets : sequence of float
        Where each row begins, in key widths from the left.

    Returns
    -------
    mapping of str to str

    Examples
    --------
    >>> adjacent_keys(["qwertyuiop", "asdfghjkl", "zxcvbnm"], [0, 0.25, 0.75])["s"]
    'weadzx'
    """
    places = {
        key: (offset + column, row)
        for row, (keys, offset) in enumerate(zip(rows, offsets, strict=True))
        for column, key in enumerate(keys)
    }
    return MappingProxyType(
        {
            key: "".join(other for other, (u, v) in places.items() if other != key and hypot(u - x, v - y) <= _REACH)
            for key, (x, y) in places.items()
        }
    )


QWERTY: Mapping[str, str] = adjacent_keys(["qwertyuiop", "asdfghjkl", "zxcvbnm"], [0, 0.25, 0.75])
"""Adjacent letters on the US layout, whose lower rows are shifted by a quarter and three quarters of a key."""
