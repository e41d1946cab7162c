r"""Cross-fitted loss and gradient of logits against cross-entropy: ``python tests/benchmarks/bench_cross_fitted.py``.

Forward and backward on the same K N V logits, float32, each way and each number of threads in a process of its own:
medians of several runs, wall and CPU time, and peak memory above the logits. ``--scale 0.1`` shrinks N, ``--out FILE``
writes a CSV. At (K, N, V) = (8, 4096, 8192) the logits take 1 GiB and a process up to four times that.

The floor of the fused loss, for one of its K N V numbers: 4 bytes read and 4 written, in pages the system clears first
(0.3 ns together at 25 GB/s); one exponential (0.5 ns in a softmax) and, for the value alone, one logarithm (0.9 ns);
two sums over all groups but one, at 2.25 additions each, a division, two products, three reductions and the last
combination, some eleven passes over what lies in the cache (0.12 ns each, 1.4 in all). That makes 3 ns, 0.8 s for the
2.7e8 numbers above. Cross-entropy computes two exponentials, writes and clears three arrays of the size of the logits
and reads as many: some 5 ns. Above the gradient, cross-entropy keeps two such arrays, the fused loss two chunks.

The third way is what the fused loss replaces: autograd of the score, in the same chunks. Of the columns, ``ratio`` and
``CPU ratio`` are those to cross-entropy's times, and ``MiB`` is the peak above the logits and the gradient, also given
in chunks. Where others use the same cores, wall times of two threads mean little: every operation waits for the thread
that is held up.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from cells import MIB, as_table, in_a_process, measure, write
from rich.console import Console
from torch import Tensor
from torch.nn import functional

from eeqs.marginal import cross_fitted
from eeqs.marginal.estimating import equal_log_weights
from eeqs.marginal.fused import cross_fitted_loss
from eeqs.marginal.fused.loss import automatic_chunk

SIZE = (8, 4096, 8192)
DRAWS, FEW_ROWS = (2, 4, 8, 16, 32), 512


def by_cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of every draw."""
    loss = functional.cross_entropy(logits.flatten(0, 1), y.repeat(len(logits)))
    return torch.autograd.grad(loss, logits)[0]


def by_fused(logits: Tensor, y: Tensor) -> Tensor:
    """The fused loss."""
    return torch.autograd.grad(cross_fitted_loss(logits, y), logits)[0]


def by_score(logits: Tensor, y: Tensor) -> Tensor:
    """Autograd of the score, chunk by chunk."""
    gradient, weights = torch.empty_like(logits), equal_log_weights(len(logits), logits)
    rows = automatic_chunk(logits)
    for start in range(0, len(y), rows):
        here = slice(start, start + rows)
        some = logits[:, here].detach().requires_grad_()
        log_p = torch.log_softmax(some, dim=-1)
        loss = cross_fitted.loss(log_p, log_p.detach(), y[here], weights).sum() / len(y)
        gradient[:, here] = torch.autograd.grad(loss, some)[0]
    return gradient


PEER, FUSED, SCORE = "cross-entropy", "fused", "autograd"
WAYS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {PEER: by_cross_entropy, FUSED: by_fused, SCORE: by_score}


def some_logits(K: int, n: int, V: int) -> tuple[Tensor, Tensor]:
    """Logits (K, n, V) with standard deviation 3, and responses."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.empty(K, n, V).normal_(0, 3, generator=generator).requires_grad_()
    return logits, torch.randint(0, V, (n,), generator=generator)


def cell(name: str, K: int, n: int, V: int, threads: int, repeats: int) -> tuple[float, float, float, float]:
    """Wall and CPU seconds, MiB above the logits and of one chunk; run in a process of its own."""
    torch.set_num_threads(threads)
    way, wall = WAYS[name], []
    way(*some_logits(K, 1, V))  # what is loaded at first use; a single row leaves next to no memory behind
    logits, y = some_logits(K, n, V)

    def run() -> Tensor:
        start = time.perf_counter()
        gradient = way(logits, y)
        wall.append(time.perf_counter() - start)
        return gradient

    above = measure(run, 1).above  # of the first run: malloc keeps what later ones return
    wall.clear()
    cpu = measure(run, repeats).seconds
    return statistics.median(wall), cpu, above, automatic_chunk(logits) * K * V * 4 / MIB


def size_rows(size: tuple[int, int, int], threads: int, repeats: int) -> list[dict[str, Any]]:
    """Time and memory of all ways at one size."""
    K, n, V = size
    rows: list[dict[str, Any]] = []
    for name in WAYS:
        wall, cpu, above, chunk = in_a_process(cell, name, *size, threads, 1 if name == SCORE else repeats)
        gradient = K * n * V * 4 / MIB
        rows.append(
            {
                "way": name,
                "K": K,
                "N": n,
                "V": V,
                "threads": threads,
                "seconds": wall,
                "CPU": cpu,
                "ns a number": 1e9 * wall / (K * n * V),
                "ratio": wall / (rows[0]["seconds"] if rows else wall),
                "CPU ratio": cpu / (rows[0]["CPU"] if rows else cpu),
                "MiB": above - gradient,
                "chunks": (above - gradient) / chunk,
            }
        )
    return rows


def main() -> None:
    """Print a table of the size asked for and one of K."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="factor of N")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, help="CSV file")
    options = parser.parse_args()
    console, every = Console(), []
    K, n, V = SIZE
    for threads in (1, 2):
        rows = size_rows((K, max(1, round(options.scale * n)), V), threads, options.repeats)
        console.print(as_table(f"forward and backward, {threads} thread(s); asked for: ratio 2, chunks 2.5", rows))
        every += rows
    few = max(1, round(options.scale * FEW_ROWS))
    rows = [row for draws in DRAWS for row in size_rows((draws, few, V), 1, options.repeats)]
    console.print(as_table("linear in K: time a number", rows))
    every += rows
    if options.out:
        write(options.out, every, ("torch",))


if __name__ == "__main__":
    main()
