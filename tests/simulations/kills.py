"""Run the toy study in processes that are killed at random moments, resume each time, and print the digest.

One process forks the others, because a fresh interpreter for each of twenty kills would spend its time on imports.
Usage: python kills.py DIRECTORY KILLS SEED
"""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
from toy_studies.slow import STUDY

from simulations.manifest import Plan
from simulations.runner import run
from simulations.store import Store, open_store
from simulations.study import Preset


def work(directory: Path) -> None:
    with open_store(directory, Plan("slow", "quick", 3, STUDY.cells(Preset.QUICK)), resume=True) as store:
        run(STUDY, store)
        store.finish()


def killed(directory: Path, seconds: float) -> bool:
    """Fork a worker and kill it after a while; return whether it was still at work."""
    child = os.fork()
    if child == 0:
        work(directory)
        os._exit(0)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def main(directory: Path, kills: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    found = 0
    while found < kills:
        # Short lives: a batch takes 50 ms, so some runs die before their first, some while they write.
        if not killed(directory, rng.uniform(0.0, 0.12)):
            raise SystemExit(f"the run ended before kill {found + 1}: give the study more batches")
        found += 1
    work(directory)
    print(Store.read(directory).manifest.digest)  # noqa: T201 - read by the test


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
