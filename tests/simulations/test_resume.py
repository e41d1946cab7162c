"""A run killed at any moment and resumed ends with the table of an uninterrupted one."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from toy_studies.slow import STUDY

from simulations.manifest import Plan
from simulations.parts import digest
from simulations.runner import run
from simulations.store import Store, open_store
from simulations.study import Preset

HERE = Path(__file__).parent


def _command(directory: Path, workers: int) -> list[str]:
    options = ["--workers", str(workers), "--out", str(directory), "--seed", "3", "--resume"]
    return [sys.executable, "-m", "simulations", "--studies", "toy_studies", "run", "slow", *options]


@contextmanager
def _started(directory: Path, workers: int, pause: float = 0.05) -> Iterator[subprocess.Popen]:
    """Run the study in a process group of its own; its workers end with the block."""
    environment = os.environ | {"PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1", "TOY_PAUSE": str(pause)}
    log = directory.with_suffix(".log").open("w")
    command, root = _command(directory, workers), HERE.parents[1]
    process = subprocess.Popen(  # noqa: S603 - fixed arguments, no shell
        command,
        cwd=root,
        env=environment,
        stdout=log,
        stderr=log,
        start_new_session=True,
        preexec_fn=_heed_interrupts,  # noqa: PLW1509 - this process has no threads
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        log.close()


def _heed_interrupts() -> None:
    """A shell that starts tests in the background has them, and all they start, ignore interrupts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _log(directory: Path) -> str:
    return directory.with_suffix(".log").read_text()


def _parts(directory: Path) -> int:
    return len(list(directory.rglob("*.parquet")))


def _signal_after(process: subprocess.Popen, directory: Path, parts: int, delay: float, number: int) -> int:
    """Send a signal a little after the given number of parts is there; return the exit code."""
    while _parts(directory) < parts and process.poll() is None:
        time.sleep(0.005)
    time.sleep(delay)
    process.send_signal(number)
    return process.wait(timeout=120)


def _kill_and_resume(directory: Path, workers: int, kills: int) -> None:
    rng = np.random.default_rng(workers)
    with ExitStack() as processes:
        for _ in range(kills):
            process = processes.enter_context(_started(directory, workers))
            parts = _parts(directory) + rng.integers(1, 4)
            code = _signal_after(process, directory, parts, rng.uniform(0, 0.1), signal.SIGKILL)
            assert code == -signal.SIGKILL, _log(directory)
        assert 0 < _parts(directory) < 18
        # The killed runs' workers may still be alive here.
        process = processes.enter_context(_started(directory, workers))
        assert process.wait(timeout=120) == 0, _log(directory)


def _uninterrupted(directory: Path) -> pd.DataFrame:
    with open_store(directory, Plan("slow", "quick", 3, STUDY.cells(Preset.QUICK))) as store:
        run(STUDY, store)
        return store.finish()


def test_twenty_kills_at_random_moments_leave_no_trace(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": f"{HERE}{os.pathsep}{HERE.parents[1]}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE / "kills.py"), str(tmp_path / "killed"), "20", "7"]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)  # noqa: S603
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip() == digest(_uninterrupted(tmp_path / "whole"))
    # A run that dies before it opens the store leaves none; how many do depends on the machine.
    assert len(Store.read(tmp_path / "killed").manifest.runs) > 1


@pytest.mark.parametrize(("workers", "kills"), [(1, 3), (2, 1)])
def test_killed_and_resumed_equals_uninterrupted(workers: int, kills: int, tmp_path: Path) -> None:
    directory = tmp_path / "killed"
    _kill_and_resume(directory, workers, kills)
    whole = _uninterrupted(tmp_path / "whole").drop(columns="seconds")
    resumed = Store.read(directory)
    assert len(resumed.manifest.runs) == kills + 1
    pd.testing.assert_frame_equal(resumed.table().drop(columns="seconds"), whole, check_exact=True)
    assert not list(directory.rglob("*.tmp"))


def test_interrupt_says_how_to_resume(tmp_path: Path) -> None:
    directory = tmp_path / "out"
    # Long pauses: on a busy machine the signal may come late, and the run must not have ended by then.
    with _started(directory, workers=1, pause=0.5) as process:
        code = _signal_after(process, directory, 1, 0.0, signal.SIGINT)
    assert code == 130, _log(directory)
    assert "repeat the command with --resume" in _log(directory)
