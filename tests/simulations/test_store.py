"""The results directory: atomic, complete, ordered, and clear about what is wrong with it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from toy_studies.exponential import STUDY

from simulations import parts
from simulations.files import write_atomically
from simulations.manifest import Manifest, Plan, ResultsError
from simulations.schema import complete
from simulations.seeds import replicate_seed
from simulations.store import Store, open_store
from simulations.study import Batch, Cell, Preset

PLAN = Plan("exponential", "quick", 0, STUDY.cells(Preset.QUICK))


def _rows(batch: Batch) -> pd.DataFrame:
    seeds = [replicate_seed(0, batch.cell.stream, i) for i in batch.replicates]
    return complete(STUDY.run(batch.cell, batch.replicates, seeds), batch, seeds, seconds=1.0)


def _fill(directory: Path, order: int = 1) -> pd.DataFrame:
    with open_store(directory, PLAN) as store:
        for batch in store.missing()[::order]:
            store.write(batch, _rows(batch))
        return store.finish()


def test_table_does_not_depend_on_the_order_of_writing(tmp_path: Path) -> None:
    forward, backward = _fill(tmp_path / "a"), _fill(tmp_path / "b", order=-1)
    pd.testing.assert_frame_equal(forward, backward)
    cells = forward[["estimator", "n"]].drop_duplicates().to_dict("records")
    assert cells == [dict(cell.parameters) for cell in PLAN.cells]
    assert (forward.groupby(["estimator", "n"])["replicate"].diff().dropna() == 1).all()


def _part(directory: Path, key: str, first: int, last: int) -> Path:
    cell = next(cell for cell in PLAN.cells if cell.key == key)
    return parts.part_path(directory / "data", Batch(cell, range(first, last)))


def test_the_dataset_is_partitioned_by_study_and_cell_and_pandas_reads_it_alone(tmp_path: Path) -> None:
    table = _fill(tmp_path)
    files = list(tmp_path.rglob("*.parquet"))
    assert sorted(files) == sorted(_part(tmp_path, cell.key, 0, 60) for cell in PLAN.cells)
    found = pd.read_parquet(tmp_path / "data")
    assert set(found["study"]) == {"exponential"}
    assert set(found["cell"]) == {cell.key for cell in PLAN.cells}
    keys = ["estimator", "n", "replicate"]
    left, right = (rows.sort_values(keys, ignore_index=True)[[*keys, "estimate"]] for rows in (found, table))
    pd.testing.assert_frame_equal(left, right)


def test_what_a_kill_leaves_while_parts_are_joined_is_passed_over(tmp_path: Path) -> None:
    with open_store(tmp_path, PLAN) as store:
        for batch in store.missing():
            store.write(batch, _rows(batch))
        before = store.table()
        kept = {path: path.read_bytes() for path in tmp_path.rglob("*.parquet")}
        store.finish()
    for path, content in kept.items():
        path.write_bytes(content)  # joined and small parts side by side
    pd.testing.assert_frame_equal(Store.read(tmp_path).table(), before)
    with open_store(tmp_path, PLAN, resume=True) as store:
        pd.testing.assert_frame_equal(store.finish(), before)
    assert len(list(tmp_path.rglob("*.parquet"))) == len(PLAN.cells)


def test_the_digest_is_of_everything_but_the_time(tmp_path: Path) -> None:
    table = _fill(tmp_path)
    assert Store.read(tmp_path).manifest.digest == parts.digest(table)
    assert parts.digest(table.assign(seconds=9.0)) == parts.digest(table)
    moved = table.assign(estimate=table["estimate"].where(table.index != 7, table["estimate"] * (1 + 1e-15)))
    for other in (moved, table[::-1], table.assign(status="other"), table.rename(columns={"se": "s"})):
        assert parts.digest(other) != parts.digest(table)


def test_no_changed_byte_goes_unnoticed(tmp_path: Path) -> None:
    batch = next(PLAN.cells[0].batches())
    parts.write_part(tmp_path, batch, _rows(batch))
    path, rows = parts.part_path(tmp_path, batch), parts.read_part(tmp_path, batch)
    content = path.read_bytes()
    caught = 0
    for place in range(0, len(content), 61):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        try:
            pd.testing.assert_frame_equal(parts.read_part(tmp_path, batch), rows)  # a byte nobody reads
        except ResultsError:
            caught += 1
    assert caught > 0.7 * len(content) / 61


def test_rows_changed_after_the_run_are_noticed(tmp_path: Path) -> None:
    _fill(tmp_path)
    path = _part(tmp_path, "estimator=plain,n=10", 0, 60)
    rows = pd.read_parquet(path, partitioning=None)
    rows.assign(estimate=rows["estimate"] + 1e-9).to_parquet(path, index=False)
    with pytest.raises(ResultsError, match="does not hold the table that was finished there"):
        Store.read(tmp_path).table()


def test_a_longer_run_keeps_what_is_there_and_adds_whole_batches(tmp_path: Path) -> None:
    longer = Plan("exponential", "quick", 0, [replace(cell, replicates=75) for cell in PLAN.cells])
    short = _fill(tmp_path)
    with open_store(tmp_path, PLAN, resume=True) as store:
        store.extend(longer)
        assert not store.manifest.digest
        assert [list(batch.replicates) for batch in store.missing()] == [list(range(60, 75))] * len(PLAN.cells)
        for batch in store.missing():
            store.write(batch, _rows(batch))
        table = store.finish()
    pd.testing.assert_frame_equal(table[table["replicate"] < 60].reset_index(drop=True), short)
    with pytest.raises(ResultsError, match="cells: 6 differ"), open_store(tmp_path, PLAN, resume=True):
        pass
    with open_store(tmp_path, PLAN, resume=True, extended=True) as store:
        assert store.plan == longer
        assert not store.missing()


def test_manifest_says_what_ran_on_what(tmp_path: Path) -> None:
    _fill(tmp_path)
    content = json.loads((tmp_path / "manifest.json").read_text())
    assert (content["study"], content["preset"], content["seed"], content["schema_version"]) == (
        "exponential", "quick", 0, 2,
    )  # fmt: skip
    assert [cell["key"] for cell in content["cells"]] == [cell.key for cell in PLAN.cells]
    (run,) = content["runs"]
    assert {"python", "numpy", "torch", "eeqs", "pandas", "pyarrow"} <= set(run["versions"])
    assert run["platform"]
    assert run["created"].endswith("+00:00")
    assert set(run["git"]) == {"commit", "dirty"}
    assert (run["git"]["commit"] is None) == (run["git"]["dirty"] is None)


def test_manifest_survives_the_way_to_disk(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(Manifest(PLAN, ({"created": "now"},)).to_json())
    assert Manifest.read(path) == Manifest(PLAN, ({"created": "now"},))


def test_incomplete_directory_lists_what_is_missing(tmp_path: Path) -> None:
    with open_store(tmp_path, PLAN) as store:
        batches = store.missing()
        for batch in batches[2:]:
            store.write(batch, _rows(batch))
        assert store.missing() == batches[:2]
        with pytest.raises(ResultsError, match=r"2 batches are missing, first .*0000000-0000025; run .* --resume"):
            store.finish()


def test_writing_checks_the_rows(tmp_path: Path) -> None:
    with open_store(tmp_path, PLAN) as store:
        first, second = store.missing()[:2]
        with pytest.raises(ValueError, match="replicates missing"):
            store.write(second, _rows(first))
        assert first in store.missing()


def test_a_directory_in_use_is_refused(tmp_path: Path) -> None:
    with (
        open_store(tmp_path, PLAN),
        pytest.raises(ResultsError, match="in use by another run"),
        open_store(tmp_path, PLAN, resume=True),
    ):
        pass


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _flip(path: Path) -> None:
    """Change one byte inside a data page, which leaves the file readable but for its checksum."""
    content = bytearray(path.read_bytes())
    content[30] ^= 0xFF
    path.write_bytes(content)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _swap(path: Path) -> None:
    path.write_bytes((path.parents[1] / "cell=estimator=plain,n=40" / path.name).read_bytes())


@pytest.mark.parametrize("damage", [_truncate, _flip, _empty, _swap])
def test_damaged_part_is_named_and_can_be_redone(damage: Callable[[Path], None], tmp_path: Path) -> None:
    with open_store(tmp_path, PLAN) as store:
        for batch in store.missing():
            store.write(batch, _rows(batch))
        table = store.table()
    part = _part(tmp_path, "estimator=plain,n=10", 25, 50)
    damage(part)
    remedy = "part-0000025-0000050.parquet is damaged .*delete it and run the study again with --resume"
    with pytest.raises(ResultsError, match=remedy):
        Store.read(tmp_path).table()
    with pytest.raises(ResultsError, match=remedy), open_store(tmp_path, PLAN, resume=True):
        pass
    part.unlink()
    with open_store(tmp_path, PLAN, resume=True) as store:
        (missing,) = store.missing()
        store.write(missing, _rows(missing))
        pd.testing.assert_frame_equal(store.finish(), table)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"study": "other", "cells": [Cell("other", {"n": 1}, 1, 1)]}, "study: 'exponential' against 'other'"),
        ({"preset": "full"}, "preset: 'quick' against 'full'"),
        ({"seed": 1}, "seed: 0 against 1"),
        ({"cells": PLAN.cells[1:]}, "cells: 1 differ, first estimator=plain,n=10"),
        ({"cells": STUDY.cells(Preset.FULL)}, "cells: 6 differ"),
        ({"cells": PLAN.cells[::-1]}, "cells: another order"),
    ],
)
def test_resuming_another_run_is_refused(changes: dict, message: str, tmp_path: Path) -> None:
    _fill(tmp_path)
    plan = Plan(**vars(PLAN) | changes)
    with pytest.raises(ResultsError, match=message), open_store(tmp_path, plan, resume=True):
        pass


def test_cost_may_change_between_runs(tmp_path: Path) -> None:
    _fill(tmp_path)
    dearer = [Cell(**vars(cell) | {"cost": 9.0}) for cell in PLAN.cells]
    with open_store(tmp_path, Plan("exponential", "quick", 0, dearer), resume=True) as store:
        assert len(store.manifest.runs) == 2


def test_a_run_is_not_overwritten(tmp_path: Path) -> None:
    _fill(tmp_path)
    with pytest.raises(ResultsError, match="already holds a run: add --resume"), open_store(tmp_path, PLAN):
        pass


def test_a_foreign_directory_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tmp").write_text("do not delete")
    with (
        pytest.raises(ResultsError, match=r"holds thesis.tmp but no manifest"),
        open_store(tmp_path, PLAN, resume=True),
    ):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tmp"]


def test_orphans_of_a_kill_are_cleaned(tmp_path: Path) -> None:
    (tmp_path / "manifest.json.tmp").write_text("{")  # killed while writing the manifest: nothing was done yet
    with open_store(tmp_path, PLAN, resume=True) as store:
        store.write(store.missing()[0], _rows(store.missing()[0]))
    half = _part(tmp_path, "estimator=plain,n=10", 0, 25)
    half.with_name(half.name + ".tmp").write_text("half")
    with open_store(tmp_path, PLAN, resume=True) as store:
        assert len(store.missing()) == 17
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize("text", ["{", "{}", '{"schema_version": 2, "cells": [{"n": 1}]}'])
def test_damaged_manifest_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ResultsError, match=r"manifest.json is damaged .*into a new directory"):
        Store.read(tmp_path)


def test_other_schema_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"schema_version": 1}')
    with pytest.raises(ResultsError, match="has schema version 1, this code reads 2"):
        Store.read(tmp_path)


def test_directory_without_manifest_is_no_result(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="holds no manifest"):
        Store.read(tmp_path)


def test_a_failed_write_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, lambda file: file.write(b"old"))

    def fail(file: object) -> None:
        file.write(b"ne")  # type: ignore[attr-defined]
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, fail)
    assert path.read_bytes() == b"old"


def test_studies_with_cells_that_clash_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    plan = Plan("toy", "quick", 0, [Cell("toy", {"seed": 1}, 1, 1)])
    with pytest.raises(ValueError, match="cell parameter 'seed'"), open_store(tmp_path / "new", plan):
        pass
    assert not (tmp_path / "new").exists()
