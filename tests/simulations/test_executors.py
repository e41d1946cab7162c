"""Where batches run: a dask cluster gives the same table, also when a worker is killed and when one joins."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from pathlib import Path

import psutil
import pytest
from toy_studies.slow import STUDY

from simulations import executors
from simulations.manifest import Plan
from simulations.runner import run
from simulations.store import Store, open_store
from simulations.study import Preset

HERE = Path(__file__).parent
BATCHES = sum(len(list(cell.batches())) for cell in STUDY.cells(Preset.QUICK))


def _digest(directory: Path) -> str:
    with open_store(directory, Plan("slow", "quick", 3, STUDY.cells(Preset.QUICK))) as store:
        run(STUDY, store)
        store.finish()
    return store.manifest.digest


def _workers(process: subprocess.Popen) -> list[psutil.Process]:
    children = psutil.Process(process.pid).children(recursive=True)
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


def test_a_dask_worker_killed_while_it_runs_changes_nothing(tmp_path: Path) -> None:
    directory, log = tmp_path / "dask", tmp_path / "log"
    environment = os.environ | {"PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"}
    options = ["run", "slow", "--dask-local", "2", "--seed", "3", "--out", str(directory)]
    with log.open("w") as file:
        process = subprocess.Popen(  # noqa: S603 - fixed arguments, no shell
            [sys.executable, "-m", "simulations", "--studies", "toy_studies", *options],
            cwd=HERE.parents[1], env=environment, stdout=file, stderr=file,
        )  # fmt: skip
        try:
            while not list(directory.rglob("*.parquet")) and process.poll() is None:
                time.sleep(0.005)
            assert len(list(directory.rglob("*.parquet"))) < BATCHES
            victim = _workers(process)[0]
            victim.send_signal(signal.SIGKILL)
            assert process.wait(timeout=180) == 0, log.read_text()
        finally:
            process.kill()
            process.wait()
    assert Store.read(directory).manifest.digest == _digest(tmp_path / "here")


class _Client:
    """A cluster of one thread that computes at once, and whose worker dies on the first tries at a task."""

    def __init__(self, deaths: int) -> None:
        self.deaths = deaths

    def nthreads(self) -> dict[str, int]:
        return {"worker": 1}

    def submit(self, function: object, task: object, *, pure: bool) -> Future:
        from distributed.scheduler import KilledWorker

        assert not pure
        future: Future = Future()
        if self.deaths:
            self.deaths -= 1
            future.set_exception(KilledWorker("task", None, 0))
        else:
            future.set_result(function(task))  # type: ignore[operator]
        return future


class _Completed(list):
    """Stands for ``distributed.as_completed``: futures in the order of submission, more while they are read."""

    add = list.append


@pytest.mark.parametrize("deaths", [0, 1, executors.ATTEMPTS - 1])
def test_a_task_whose_worker_died_is_sent_again(deaths: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distributed.as_completed", _Completed)
    taken: list[int] = []

    def tasks():
        for task in range(7):
            taken.append(task)
            yield task

    found = executors.on_cluster(_Client(deaths))(lambda task: 10 * task, tasks())
    assert next(found) in (0, 10)
    assert len(taken) <= 3  # two a thread, and one for the task that came back: no more than the cluster can use
    assert len(list(found)) == 6


def test_a_task_that_kills_every_worker_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    from distributed.scheduler import KilledWorker

    monkeypatch.setattr("distributed.as_completed", _Completed)
    with pytest.raises(KilledWorker):
        list(executors.on_cluster(_Client(10**6))(abs, iter([1, 2])))
