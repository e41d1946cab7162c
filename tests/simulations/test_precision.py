"""Sequential precision: stops when every interval is narrow or time is up, and neither before."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from toy_studies.exponential import STUDY, Exponential

from simulations.manifest import Plan
from simulations.precision import Target, grown, rounds, whole_batches
from simulations.runner import run
from simulations.store import Store, open_store
from simulations.study import Preset

PLAN = whole_batches(Plan("exponential", "quick", 0, STUDY.cells(Preset.QUICK)))


def _width(store: Store) -> float:
    verdicts = STUDY.verdicts(store.table(), Preset.QUICK)
    return float((verdicts["high"] - verdicts["low"]).max())


def _refine(store: Store, target: Target, clock: Iterator[float]) -> list[str]:
    run(STUDY, store)
    store.finish()
    messages = []
    for message in rounds(
        store, target, lambda: STUDY.verdicts(store.table(), Preset.QUICK), lambda: float(next(clock))
    ):
        messages.append(message)
        run(STUDY, store)
        store.finish()
    return messages


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path, PLAN) as opened:
        yield opened


def test_replicates_are_added_until_the_interval_is_as_narrow_as_asked(store: Store) -> None:
    messages = _refine(store, Target(0.08, 1e9), iter(range(10**6)))
    assert messages[-1] == "every interval is at most 0.08 wide"
    assert _width(store) <= 0.08
    assert len(messages) > 2
    assert all(cell.replicates % cell.batch == 0 for cell in store.plan.cells)
    assert len(store.table()) == sum(cell.replicates for cell in store.plan.cells)


def test_the_table_is_that_of_a_plan_which_asked_for_as_many_at_once(store: Store, tmp_path: Path) -> None:
    _refine(store, Target(0.12, 1e9), iter(range(10**6)))
    with open_store(tmp_path / "once", store.plan) as once:
        run(STUDY, once)
        once.finish()
    assert once.manifest.digest == store.manifest.digest


def test_nothing_is_added_where_the_interval_is_narrow_already(store: Store) -> None:
    assert _refine(store, Target(10.0, 1e9), iter(range(10**6))) == ["every interval is at most 10 wide"]
    assert store.plan == PLAN


def test_the_budget_ends_the_run(store: Store) -> None:
    seconds = iter(np.arange(0.0, 1e6, 40.0))  # a clock that moves 40 s between two looks
    messages = _refine(store, Target(1e-6, 100.0), seconds)
    assert messages[-1].startswith("the budget of 100 s ended with 1 of 1 intervals wider than asked")
    assert 2 <= len(messages) <= 4


def test_an_interval_that_is_not_finite_asks_for_more(store: Store) -> None:
    run(STUDY, store)
    judged = pd.DataFrame({"low": [np.nan], "high": [np.nan]})
    message = next(rounds(store, Target(1.0, 1e9), lambda: judged, lambda: 0.0))
    assert message.startswith("1 of 1 intervals are wider than 1: 450 more replicates")


def test_plans_grow_in_whole_batches() -> None:
    assert {cell.replicates for cell in PLAN.cells} == {75}
    assert {cell.replicates for cell in grown(PLAN, 1.01).cells} == {100}
    assert grown(PLAN, 1.0) == PLAN


@pytest.mark.parametrize(("width", "seconds"), [(0.0, 1.0), (-1.0, 1.0), (1.0, 0.0)])
def test_targets_are_positive(width: float, seconds: float) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        Target(width, seconds)


def test_a_run_that_was_refined_is_refined_further(tmp_path: Path) -> None:
    with open_store(tmp_path, PLAN) as store:
        run(STUDY, store)
        store.extend(grown(PLAN, 2.0))
    with open_store(tmp_path, PLAN, resume=True, extended=True) as store:
        assert store.plan == grown(PLAN, 2.0)
        run(Exponential(), store)
        assert len(store.table()) == 6 * 150
