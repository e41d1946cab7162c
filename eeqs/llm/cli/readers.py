"""Options written as key=value, read by the types that the called function declares."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_type_hints

from eeqs.engine.errors import DataError
from eeqs.marginal import scores
from eeqs.marginal.discrete.synonyms import read_synonyms
from eeqs.marginal.draws import Draws, antithetic, iid, shifted_grid, sobol
from eeqs.marginal.scores import Score

__all__ = ["arguments", "check_known", "described", "options", "pairs"]

_DESIGNS: dict[str, Callable[..., Draws]] = {
    "iid": iid,
    "antithetic": antithetic,
    "sobol": sobol,
    "grid": shifted_grid,
}
_SCORES = {name: found for name in scores.__all__ if isinstance(found := getattr(scores, name), Score)}


def pairs(texts: Sequence[str], flag: str) -> dict[str, str]:
    """Split ``key=value`` texts.

    Raises
    ------
    DataError
        One has no ``=``, or a key comes twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (equals and key and value):
            raise DataError(f"{flag} {text}: write {flag} key=value.")
        if key in found:
            raise DataError(f"{flag} {key} is given twice, as {found[key]} and {value}; give it once.")
        found[key] = value
    return found


def options(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Parameters of a function that can be written as text; their annotations are types, not names."""
    hints = get_type_hints(function)
    parameters = inspect.signature(function).parameters.values()
    typed = [one.replace(annotation=hints.get(one.name)) for one in parameters]
    return {one.name: one for one in typed if one.annotation in _READERS}


def arguments(known: Mapping[str, inspect.Parameter], texts: Mapping[str, str], flag: str) -> dict[str, Any]:
    """Values of options.

    Raises
    ------
    DataError
        A text cannot be read as the option's type.
    """
    values = {}
    for name, text in texts.items():
        read, example = _READERS[known[name].annotation]
        try:
            values[name] = read(text)
        except (ValueError, KeyError) as error:
            raise DataError(f"{flag} {name}={text} cannot be read; write {example}.") from error
    return values


def check_known(texts: Mapping[str, str], known: Mapping[str, inspect.Parameter], owner: str, flag: str) -> None:
    """Refuse an option that is not known, naming those that are."""
    for name in texts:
        if name not in known:
            close = get_close_matches(name, known, 1)
            guess = f" Did you mean {close[0]}?" if close else ""
            raise DataError(f'{owner} has no {flag} "{name}".{guess} It has: {described(known) or "none"}.')


def described(known: Mapping[str, inspect.Parameter]) -> str:
    """Names of options with their defaults."""
    return ", ".join(
        name if one.default in (inspect.Parameter.empty, None) else f"{name}={_written(one.default)}"
        for name, one in known.items()
    )


def _written(value: Any) -> str:
    if isinstance(value, Score):
        return value.name
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _draws(text: str) -> Draws:
    name, *sizes = text.split(":")
    return _DESIGNS[name](*map(int, sizes)) if sizes else iid(int(name))


def _integers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(",")))


def _synonyms(text: str) -> Mapping[str, Sequence[str]]:
    return read_synonyms(Path(text))


# By annotation: how to read a text, and what to write.
_READERS: dict[Any, tuple[Callable[[str], Any], str]] = {
    bool: ({"true": True, "false": False}.__getitem__, "true or false"),
    int: (int, "an integer"),
    int | None: (lambda text: None if text == "none" else int(text), "an integer or none"),
    float: (float, "a number"),
    float | None: (float, "a number"),
    Sequence[int]: (_integers, "integers with commas between, such as 16,16"),
    int | Draws: (_draws, f"a number of draws, or a design of {', '.join(_DESIGNS)} with its size, as antithetic:4"),
    Score: (_SCORES.__getitem__, f"one of {', '.join(_SCORES)}"),
    Mapping[str, Sequence[str]]: (_synonyms, "the path of a file of synonyms"),
}
