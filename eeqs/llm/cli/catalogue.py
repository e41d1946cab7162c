"""Every training method of `eeqs.llm.methods` by a name, found by what the functions there return."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, get_type_hints

from eeqs.engine.errors import DataError
from eeqs.llm import methods
from eeqs.llm.cli.readers import arguments, check_known, options
from eeqs.llm.methods import Build, Method, wordnet_synonyms

__all__ = ["Entry", "catalogue", "method_of"]


@dataclass(frozen=True)
class Entry:
    """A method that the command line can build.

    Parameters
    ----------
    name : str
    factory : callable
        Returns a `Method`.
    family : callable, optional
        Returns the perturbation that a learned method needs; its options join those of the factory.
    """

    name: str
    factory: Callable[..., Method]
    family: Callable[..., Build] | None = None

    @property
    def summary(self) -> str:
        """First sentences of the docstrings, without the marks of formulas."""
        found = [self.factory, *([self.family] if self.family else [])]
        return " ".join(re.sub(r":math:|`", "", (inspect.getdoc(one) or "").partition("\n")[0]) for one in found)

    @property
    def known(self) -> dict[str, inspect.Parameter]:
        """Options by name."""
        own = {name: one for name, one in options(self.factory).items() if name != "length"}
        return own | (options(self.family) if self.family else {})

    def build(self, texts: Mapping[str, str], length: int) -> Method:
        """Build the method from options as text.

        Parameters
        ----------
        texts : mapping of str to str
        length : int
            Tokens of a training row, which NEFTune asks for.

        Raises
        ------
        DataError
            An option is unknown, cannot be read, or is missing.
        """
        known = self.known
        check_known(texts, known, self.name, "--option")
        values = arguments(known, texts, "--option")
        if "synonyms" in known and "synonyms" not in values:
            values["synonyms"] = wordnet_synonyms()
        needed = [name for name, one in known.items() if one.default is inspect.Parameter.empty]
        missing = [name for name in needed if name not in values]
        if missing:
            raise DataError(f"{self.name} needs {', '.join(missing)}: add --option {missing[0]}=VALUE.")
        return self._called(values, length)

    def _called(self, values: dict[str, Any], length: int) -> Method:
        accepted = inspect.signature(self.factory).parameters
        if "length" in accepted:
            values["length"] = length
        if self.family is None:
            return self.factory(**values)
        of_family = {name: values.pop(name) for name in options(self.family) if name in values}
        return self.factory(self.name, self.family(**of_family), **values)


def catalogue() -> dict[str, Entry]:
    """Methods by name; a learned one is called after how its perturbation is learned and the family of it."""
    public = [getattr(methods, name) for name in methods.__all__]
    returned = {one: get_type_hints(one).get("return") for one in public if inspect.isfunction(one)}
    factories = [one for one, kind in returned.items() if kind is Method]
    families = [one for one, kind in returned.items() if kind == Build]
    found = {}
    for factory in factories:
        learned = "perturbation" in inspect.signature(factory).parameters
        for family in families if learned else [None]:
            name = factory.__name__ if family is None else f"{factory.__name__}_{family.__name__}"
            found[name] = Entry(name, factory, family)
    return found


def method_of(name: str) -> Entry:
    """Look a method up.

    Raises
    ------
    DataError
        There is none of that name.
    """
    known = catalogue()
    if name not in known:
        close = get_close_matches(name, known, 1)
        guess = f" Did you mean {close[0]}?" if close else ""
        raise DataError(f'there is no method "{name}".{guess} There are: {", ".join(known)}.')
    return known[name]
