"""Where batches run: in this process, in processes of this machine, or on a dask cluster that may lose workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

from joblib import Parallel, delayed, parallel_config

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = ["Execute", "cluster", "local", "on_cluster"]

Execute = Callable[[Callable[[Any], Any], Iterator[Any]], Iterator[Any]]
"""Maps a function over tasks, taken up lazily, and yields results in the order in which they are done."""

ATTEMPTS = 10
"""Workers a task may take down with it before it is given up: one that exhausts memory kills each it is sent to."""


def local(workers: int = 1) -> Execute:
    """Run in `workers` processes of this machine; 1 runs in this one."""

    def execute(function: Callable[[Any], Any], tasks: Iterator[Any]) -> Iterator[Any]:
        # Workers that outlive a killed parent wait for work that never comes: a short patience ends them.
        with parallel_config(backend="loky", inner_max_num_threads=1, idle_worker_timeout=10):
            # One batch a task, taken up lazily: every batch reaches the disk as soon as it is done.
            parallel = Parallel(n_jobs=workers, return_as="generator_unordered", batch_size=1, pre_dispatch="2*n_jobs")
        yield from parallel(delayed(function)(task) for task in tasks)

    return execute


def on_cluster(client: Client) -> Execute:
    """Run on a dask cluster. A task whose worker dies is sent to another; workers may join at any time."""

    def execute(function: Callable[[Any], Any], tasks: Iterator[Any]) -> Iterator[Any]:
        from distributed import as_completed
        from distributed.scheduler import KilledWorker

        origin: dict[Future, tuple[Any, int]] = {}
        running = as_completed()

        def submit(task: Any, losses: int = 0) -> None:
            future = client.submit(function, task, pure=False)
            origin[future] = task, losses
            running.add(future)

        def refill() -> None:
            # Two a thread keep a worker busy while its last result travels.
            room = 2 * max(sum(client.nthreads().values()), 1) - len(origin)
            for task in islice(tasks, max(room, 0)):
                submit(task)

        refill()
        for future in running:
            task, losses = origin.pop(future)
            try:
                result = future.result()
            except KilledWorker:
                if losses + 1 >= ATTEMPTS:
                    raise
                submit(task, losses + 1)
                continue
            refill()
            yield result

    return execute


@contextmanager
def cluster(address: str | int) -> Iterator[Execute]:
    """Connect to a dask scheduler, or start that many workers on this machine, for as long as the block lasts.

    Parameters
    ----------
    address : str or int
        Such as ``tcp://10.0.0.1:8786``, or a number of workers.

    Raises
    ------
    ImportError
        dask is not installed.
    OSError
        No scheduler answers at the address.
    """
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise ImportError('dask is not installed: pip install "eeqs[dist]"') from error
    if isinstance(address, str):
        with Client(address) as client:
            yield on_cluster(client)
        return
    with (
        LocalCluster(n_workers=address, threads_per_worker=1, dashboard_address=None) as workers,
        Client(workers) as client,
    ):
        yield on_cluster(client)
