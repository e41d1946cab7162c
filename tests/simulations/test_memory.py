"""Keeping freed memory: it takes effect where the C library is glibc, changes no result, and is refused elsewhere."""

import ctypes
import json
import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from simulations.memory import keep_freed_memory

ROOT = Path(__file__).resolve().parents[2]

# The same psi on the same data, before and after; its temporaries are larger than malloc's default threshold.
PROGRAM = """
import json, torch
from eeqs.marginal import cross_fitted
from simulations.designs.frozen_kernel import FrozenKernel
from simulations.memory import keep_freed_memory

torch.set_num_threads(1)
design = FrozenKernel()
model = design.model()

def mean():
    data = design.sample(20_000, 4, torch.Generator().manual_seed(3))
    return float(model.psi(cross_fitted, draws=4)(model.theta, data | {"y": data["y"].double()}).mean())

before = mean()
taken = [keep_freed_memory(), keep_freed_memory()]
print(json.dumps({"taken": taken, "values": [before, mean(), mean()]}))
"""


def test_it_takes_effect_and_changes_no_result() -> None:
    # In a process of its own: the setting cannot be taken back.
    done = subprocess.run(  # noqa: S603 - our own interpreter and text
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PROGRAM],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["taken"] == [sys.platform.startswith("linux") and platform.libc_ver()[0] == "glibc"] * 2
    assert found["values"][0] != 0
    assert len(set(found["values"])) == 1


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_other_systems_are_left_alone(system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def loaded(_: object) -> None:
        raise AssertionError("the C library was touched")

    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(ctypes, "CDLL", loaded)
    assert keep_freed_memory() is False


@pytest.mark.parametrize(
    ("library", "taken"),
    [
        (SimpleNamespace(), False),  # a C library without mallopt
        (SimpleNamespace(mallopt=lambda _name, value: int(value != 0)), False),  # one setting refused
        (SimpleNamespace(mallopt=lambda _name, _value: 1), True),
    ],
)
def test_the_answer_is_that_of_the_library(
    library: SimpleNamespace, taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda _: library)
    assert keep_freed_memory() is taken
