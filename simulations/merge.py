"""Results of several machines put together: each ran some of the batches of one plan."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from simulations import parts
from simulations.manifest import Plan, ResultsError
from simulations.store import Store, open_store
from simulations.study import Batch

__all__ = ["merge", "shard"]


def shard(plan: Plan, batches: Sequence[Batch], index: int, count: int) -> list[Batch]:
    """Return those of some batches that belong to the `index`-th of `count` shares of a plan, 1 <= index <= count.

    Shares deal out the batches of the whole plan in turn, so a share is the same on every machine, begun or not.
    """
    mine = {
        (batch.cell.key, batch.replicates.start)
        for position, batch in enumerate(batch for cell in plan.cells for batch in cell.batches())
        if position % count == index - 1
    }
    starts = [batch.replicates.start - batch.replicates.start % batch.cell.batch for batch in batches]
    return [batch for batch, start in zip(batches, starts, strict=True) if (batch.cell.key, start) in mine]


def merge(sources: Sequence[Path], out: Path) -> Store:
    """Copy the parts of several results directories of one plan into a new one, and finish it if nothing is missing.

    Parameters
    ----------
    sources : sequence of Path
        Results directories.
    out : Path
        A directory that is empty or does not exist.

    Returns
    -------
    Store
        The merged directory; run the study on it with ``--resume`` if batches are missing.

    Raises
    ------
    ResultsError
        The directories hold different plans, or the same replicate twice.
    """
    stores = [Store.read(source) for source in sources]
    first = stores[0]
    for store in stores[1:]:
        differences = first.plan.differences(store.plan)
        if differences:
            raise ResultsError(
                f"{first.directory} and {store.directory} hold different runs: {'; '.join(differences)}. "
                "Merge directories of one study, preset and seed"
            )
    _refuse_duplicates(stores)
    with open_store(out, first.plan) as merged:
        for store in stores:
            for cell in store.plan.cells:
                for part in parts.stored(store.data, cell):
                    merged.write(part, parts.read_part(store.data, part))
        runs = tuple(run for store in stores for run in store.manifest.runs)
        merged.save(replace(merged.manifest, runs=(*runs, *merged.manifest.runs)))
        if not merged.missing():
            merged.finish()
    return merged


def _refuse_duplicates(stores: Sequence[Store]) -> None:
    for cell in stores[0].plan.cells:
        owner: dict[int, Path] = {}
        for store in stores:
            for part in parts.stored(store.data, cell):
                for replicate in part.replicates:
                    if replicate in owner:
                        raise ResultsError(
                            f"replicate {replicate} of cell {cell.key} is in {owner[replicate]} and in "
                            f"{store.directory}: merge directories that share no replicate"
                        )
                    owner[replicate] = store.directory
