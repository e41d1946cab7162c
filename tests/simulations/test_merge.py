"""Shares of a plan and their merger: every batch once, the table of one machine, and nothing mixed up."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from toy_studies.exponential import STUDY

from simulations.manifest import Plan, ResultsError
from simulations.merge import merge, shard
from simulations.runner import run
from simulations.store import open_store
from simulations.study import Preset

PLAN = Plan("exponential", "quick", 0, STUDY.cells(Preset.QUICK))


def _share(directory: Path, index: int, count: int, plan: Plan = PLAN) -> Path:
    with open_store(directory, plan) as store:
        run(STUDY, store, batches=shard(plan, store.missing(), index, count))
    return directory


def _whole(directory: Path) -> pd.DataFrame:
    with open_store(directory, PLAN) as store:
        run(STUDY, store)
        return store.finish()


@pytest.mark.parametrize("count", [1, 2, 5, 40])
def test_shares_hold_every_batch_once_and_alike(count: int, tmp_path: Path) -> None:
    with open_store(tmp_path, PLAN) as store:
        batches = store.missing()
    shares = [shard(PLAN, batches, index, count) for index in range(1, count + 1)]
    assert sorted(batch.name for share in shares for batch in share) == sorted(batch.name for batch in batches)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_share_that_is_begun_stays_the_same(tmp_path: Path) -> None:
    with open_store(tmp_path, PLAN) as store:
        mine = shard(PLAN, store.missing(), 2, 3)
        run(STUDY, store, batches=mine[:2])
        assert shard(PLAN, store.missing(), 2, 3) == mine[2:]


def test_merged_shares_are_the_table_of_one_machine(tmp_path: Path) -> None:
    shares = [_share(tmp_path / str(index), index, 3) for index in (1, 2, 3)]
    merged = merge(shares, tmp_path / "merged")
    assert merged.missing() == []
    pd.testing.assert_frame_equal(
        merged.table().drop(columns="seconds"), _whole(tmp_path / "whole").drop(columns="seconds"), check_exact=True
    )
    assert len(merged.manifest.runs) == 4  # where the rows come from, and the merger


def test_a_missing_share_is_missing_and_can_be_run(tmp_path: Path) -> None:
    merged = merge([_share(tmp_path / "a", 1, 3), _share(tmp_path / "b", 3, 3)], tmp_path / "merged")
    assert merged.missing() == shard(PLAN, merged.missing(), 2, 3)
    assert not merged.manifest.digest
    with open_store(tmp_path / "merged", PLAN, resume=True) as store:
        run(STUDY, store)
        table = store.finish()
    assert len(table) == len(_whole(tmp_path / "whole"))


def test_the_same_replicates_twice_are_refused(tmp_path: Path) -> None:
    first, again = _share(tmp_path / "a", 1, 2), _share(tmp_path / "b", 1, 2)
    with pytest.raises(ResultsError, match=r"replicate 0 of cell estimator=plain,n=10 is in .*a and in .*b"):
        merge([first, again], tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, "seed: 0 against 1"),
        ({"cells": [replace(cell, batch=20) for cell in PLAN.cells]}, "cells: 6 differ"),
    ],
)
def test_different_designs_are_refused(changes: dict, message: str, tmp_path: Path) -> None:
    other = _share(tmp_path / "b", 2, 2, replace(PLAN, **changes))
    with pytest.raises(ResultsError, match=rf"hold different runs: {message}"):
        merge([_share(tmp_path / "a", 1, 2), other], tmp_path / "merged")
