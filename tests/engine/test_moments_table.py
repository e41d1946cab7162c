"""The table of estimating functions in the documentation is complete, and says what the code says."""

import re
from pathlib import Path

import pytest

from eeqs.engine import moments
from eeqs.engine.psi import EstimatingFunction

PAGE = Path(__file__).resolve().parents[2] / "docs" / "moments.md"
ROW = re.compile(r"^\| `(\w+\([^`]*\))` \| .* \| ([^|]*) \| [^|]*\|$", re.MULTILINE)
SUBMODULES = ("correlations", "families", "links")


def rows(text: str) -> dict[str, tuple[str, ...]]:
    """Parameter names by the call in the first column."""
    return {call: tuple(re.findall(r"`([^`]+)`", names)) for call, names in ROW.findall(text)}


def missing(text: str) -> set[str]:
    """Public names of the package that the page does not have: factories as calls, submodules anywhere."""
    shown = {call.split("(")[0] for call in rows(text)} | {name for name in SUBMODULES if f"`{name}`" in text}
    return set(moments.__all__) - shown


def test_every_public_name_is_in_the_table():
    assert not missing(PAGE.read_text())


@pytest.mark.parametrize(("call", "names"), rows(PAGE.read_text()).items())
def test_parameters_are_those_of_the_call(call, names):
    psi = eval(call, {name: getattr(moments, name) for name in moments.__all__})  # noqa: S307 - our own page
    assert isinstance(psi, EstimatingFunction)
    assert psi.names == names


@pytest.mark.parametrize(
    ("old", "new", "lost"),
    [('| `ratio("y", "x")` |', "| ratio |", {"ratio"}), ("`families` has", "It has", {"families"})],
)
def test_a_lost_name_is_missed(old, new, lost):
    text = PAGE.read_text()
    assert old in text
    assert missing(text.replace(old, new)) == lost
