"""Running: the same table whatever the workers, and errors that name the cell and lose no finished batch."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from toy_studies.exponential import STUDY, Exponential

from simulations.executors import local
from simulations.manifest import Plan
from simulations.parts import part_path
from simulations.runner import BatchError, run, tabulate
from simulations.store import open_store
from simulations.study import Batch, Preset


def _run(study: Exponential, directory: Path, workers: int = 1, seed: int = 0, **options: object) -> pd.DataFrame:
    plan = Plan(study.name, "quick", seed, study.cells(Preset.QUICK))
    with open_store(directory, plan, resume=True) as store:
        run(study, store, execute=local(workers), **options)
        return store.finish()


def test_table_does_not_depend_on_the_workers(tmp_path: Path) -> None:
    one, two = _run(STUDY, tmp_path / "1"), _run(STUDY, tmp_path / "2", workers=2)
    pd.testing.assert_frame_equal(one.drop(columns="seconds"), two.drop(columns="seconds"), check_exact=True)


def test_a_table_in_memory_is_the_stored_one(tmp_path: Path) -> None:
    stored, found = _run(STUDY, tmp_path), tabulate(STUDY, STUDY.cells(Preset.QUICK))
    pd.testing.assert_frame_equal(found.drop(columns="seconds"), stored.drop(columns="seconds"), check_exact=True)
    with pytest.raises(BatchError, match="n=40, replicates 0 to 24 failed"):
        tabulate(Exponential(breaks_at=40), STUDY.cells(Preset.QUICK))


def test_table_depends_on_the_seed(tmp_path: Path) -> None:
    one, two = _run(STUDY, tmp_path / "1"), _run(STUDY, tmp_path / "2", seed=1)
    assert not (one["estimate"] == two["estimate"]).any()


def test_cells_that_share_a_stream_see_the_same_data(tmp_path: Path) -> None:
    table = _run(STUDY, tmp_path)
    plain, shrunk = (table[table["estimator"] == name].reset_index() for name in ("plain", "shrunk"))
    pd.testing.assert_series_equal(plain["seed"], shrunk["seed"])
    expected = plain["estimate"] * plain["n"] / (plain["n"] + 1)
    np.testing.assert_allclose(shrunk["estimate"], expected, rtol=1e-12)
    assert not plain["estimate"].dropna().duplicated().any()


@pytest.mark.parametrize("workers", [1, 2])
def test_failure_names_the_cell_and_keeps_what_is_done(workers: int, tmp_path: Path) -> None:
    broken = Exponential(breaks_at=40)
    done: list[Batch] = []
    with pytest.raises(BatchError, match=r"(?s)estimator=\w+,n=40, replicates \d+ to \d+ failed.*as planted"):
        _run(broken, tmp_path, workers=workers, on_done=done.append)
    assert {batch.cell.parameters["n"] for batch in done} >= {160}
    assert set(tmp_path.rglob("*.parquet")) == {part_path(tmp_path / "data", batch) for batch in done}
    resumed = _run(STUDY, tmp_path)
    pd.testing.assert_frame_equal(
        resumed.drop(columns="seconds"), _run(STUDY, tmp_path / "again").drop(columns="seconds")
    )


class Careless(Exponential):
    """Returns rows the schema does not allow."""

    def run(self, *arguments: object) -> pd.DataFrame:
        return super().run(*arguments).assign(se=-1.0)


def test_rows_that_violate_the_schema_name_the_cell(tmp_path: Path) -> None:
    with pytest.raises(BatchError, match=r"(?s)estimator=plain,n=160, .*se is negative or infinite"):
        _run(Careless(), tmp_path)


def test_longest_batches_come_first(tmp_path: Path) -> None:
    done: list[Batch] = []
    _run(STUDY, tmp_path, on_done=done.append)
    costs = [batch.cost for batch in done]
    assert costs == sorted(costs, reverse=True)


class Threads(Exponential):
    """Reports the number of threads it runs on as its estimate."""

    def run(self, *arguments: object) -> pd.DataFrame:
        return super().run(*arguments).assign(estimate=float(torch.get_num_threads()))


def test_a_batch_runs_on_one_thread(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert (_run(Threads(), tmp_path)["estimate"] == 1).all()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
