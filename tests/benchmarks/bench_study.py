r"""What the simulation package costs: ``python tests/benchmarks/bench_study.py --out FILE`` writes one CSV.

* Parallel efficiency: wall time on one worker over twice that on two, for a run of ``rates`` cells. The floor is the
  work itself: efficiency 1 where workers share nothing. They share the memory bus and, once, an interpreter start each
  (about 3 s of imports), which the table states apart.
* Memory: peak resident size of a process that runs a cell of R replicates batch by batch, R = 100 to 10,000. A batch
  and its rows are what must be held: flat in R but for the table at the end, 9 columns of 8 to 60 bytes a row.
* Throughput: a batch of replicates in one tensor program against a loop of single solves of the same replicates. The
  floor is the arithmetic; the loop pays the overhead of about 10^3 small tensor operations a fit.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from cells import in_a_process, resident, write

import eeqs
from eeqs.marginal import cross_fitted
from simulations.executors import Execute, local
from simulations.manifest import Plan
from simulations.memory import keep_freed_memory
from simulations.runner import run
from simulations.seeds import replicate_seed, torch_generator
from simulations.store import open_store
from simulations.studies.rates import BATCH_NUMBERS, STUDY
from simulations.study import Cell, Preset


def cell(n: int, replicates: int, n_draws: int = 4) -> Cell:
    """A cross-fitted cell of the study ``rates``, with the batches of the study."""
    wanted = {"quantity": "root", "estimator": "cross_fitted", "n_draws": n_draws}
    found = next(c for c in STUDY.cells(Preset.FULL) if wanted.items() <= c.parameters.items())
    numbers = n * n_draws * len(STUDY.design.weight)
    batch = max(1, min(replicates, BATCH_NUMBERS // numbers))
    parameters = {**found.parameters, "n": n}
    return replace(found, parameters=parameters, replicates=replicates, batch=batch, stream=f"n={n}", cost=numbers)


def timed_run(cells: list[Cell], execute: Execute) -> float:
    """Seconds of a stored run."""
    with (
        tempfile.TemporaryDirectory() as folder,
        open_store(Path(folder), Plan(STUDY.name, "full", 0, cells)) as store,
    ):
        start = time.perf_counter()
        run(STUDY, store, execute=execute)
        return time.perf_counter() - start


def efficiency(replicates: int, repeats: int) -> list[dict]:
    """Time the same run on one worker and on two, in turn; the two processes are there before the clock starts."""
    cells = [cell(n, replicates) for n in (500, 1000, 2000)]
    two = local(2)
    timed_run([cell(500, 40)], two)
    rows = []
    for repeat in range(repeats):
        one_worker, two_workers = timed_run(cells, local(1)), timed_run(cells, two)
        found = {"one worker (s)": one_worker, "two workers (s)": two_workers}
        found["efficiency"] = one_worker / (2 * two_workers)
        rows += [{"measure": name, "setting": f"repeat {repeat}", "value": value} for name, value in found.items()]
    return rows


def peak(replicates: int) -> float:
    """Peak resident MiB of this process after a stored run of one cell."""
    timed_run([cell(200, replicates)], local(1))
    return resident("VmHWM")


def memory() -> list[dict]:
    """Peak of a fresh process for each number of replicates."""
    return [
        {"measure": "peak memory (MiB)", "setting": f"R = {size}", "value": in_a_process(peak, size)}
        for size in (100, 1000, 10_000)
    ]


def _median(work: Callable[[], object], repeats: int) -> float:
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return sorted(seconds)[len(seconds) // 2]


def throughput(repeats: int) -> list[dict]:
    """Milliseconds a replicate of one batch and of a loop of `eeqs.estimate` on the same replicates."""
    rows = []
    for n in (100, 200, 500, 1000):
        one = cell(n, 400)
        replicates = range(one.batch)
        seeds = [replicate_seed(0, one.stream, r) for r in replicates]
        loop_seeds = seeds[:10]

        def batched(one: Cell = one, replicates: range = replicates, seeds: list = seeds) -> None:
            STUDY.run(one, replicates, seeds)

        def looped(n: int = n, seeds: list = loop_seeds) -> None:
            for seed in seeds:
                psi = STUDY.design.model(STUDY.design.start).psi(cross_fitted, draws=4)
                eeqs.estimate(psi, STUDY.design.sample(n, 4, torch_generator(seed)), theta0=[STUDY.design.start])

        batched()
        times = _median(batched, repeats) / len(seeds), _median(looped, repeats) / len(loop_seeds)
        setting = f"n = {n}, batch of {one.batch}"
        rows += [
            {"measure": "batched (ms a replicate)", "setting": setting, "value": 1000 * times[0]},
            {"measure": "loop of single solves (ms a replicate)", "setting": setting, "value": 1000 * times[1]},
            {"measure": "loop / batched", "setting": setting, "value": times[1] / times[0]},
        ]
    return rows


def main() -> None:
    """Measure everything and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--replicates", type=int, default=600)
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()  # as workers do
    rows = [*throughput(chosen.repeats), *memory(), *efficiency(chosen.replicates, chosen.repeats)]
    write(chosen.out, rows, ["torch", "joblib", "pyarrow"])


if __name__ == "__main__":
    main()
