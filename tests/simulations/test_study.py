"""Cells, batches and the discovery of studies."""

import re
from pathlib import Path

import pytest
from toy_studies.exponential import Exponential

import simulations.studies
from simulations.study import Cell, check_cells, discover, presets


def test_key_is_readable_and_stream_defaults_to_it() -> None:
    cell = Cell("toy", {"estimator": "plain", "n": 10, "r": 0.5}, 3, 2)
    assert cell.key == "estimator=plain,n=10,r=0.5"
    assert cell.stream == cell.key


def test_batches_split_the_replicates() -> None:
    batches = list(Cell("toy", {"n": 10}, 7, 3, cost=2.0).batches())
    assert [list(batch.replicates) for batch in batches] == [[0, 1, 2], [3, 4, 5], [6]]
    assert [batch.cost for batch in batches] == [6.0, 6.0, 2.0]
    assert batches[2].name == "n=10.0000006-0000007"


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"parameters": {"n": True}}, TypeError, "'n' is a bool"),
        ({"parameters": {"n": float("nan")}}, ValueError, "'n' is nan"),
        ({"parameters": {"name": "a/b"}}, ValueError, "name=a/b"),
        ({"parameters": {}}, ValueError, "cell key ''"),
        ({"replicates": 0}, ValueError, "at least 1"),
        ({"batch": 0}, ValueError, "at least 1"),
        ({"cost": 0.0}, ValueError, "cost is 0.0"),
    ],
)
def test_bad_cell_is_refused(changes: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        Cell(**{"study": "toy", "parameters": {"n": 1}, "replicates": 1, "batch": 1} | changes)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ([], "no cells"),
        ([{"n": 1}, {"n": 1}], "2 cells share the key 'n=1'"),
        ([{"n": 1}, {"k": 1}], "differ in the names or types"),
        ([{"n": 1}, {"n": 1.5}], "differ in the names or types"),
        ([{"e": "A"}, {"e": "a"}], "share the key"),
    ],
)
def test_cells_that_cannot_share_a_table_are_refused(parameters: list[dict], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_cells("toy", [Cell("toy", each, 1, 1) for each in parameters])


def test_cell_of_another_study_is_refused() -> None:
    with pytest.raises(ValueError, match="belongs to study 'other'"):
        check_cells("toy", [Cell("other", {"n": 1}, 1, 1)])


def test_every_module_of_the_folder_is_a_study() -> None:
    files = Path(simulations.studies.__path__[0]).glob("*.py")
    assert set(discover()) == {file.stem for file in files} - {"__init__"}
    for name, study in discover().items():
        assert study.name == name
        assert study.summary
        assert presets(study)
        for preset in presets(study):
            check_cells(name, study.cells(preset))


def test_discovery_reads_any_package() -> None:
    found = discover("toy_studies")
    assert list(found) == ["exponential", "slow", "wrong"]
    assert found["exponential"] == Exponential()


@pytest.mark.parametrize(
    ("package", "source", "message"),
    [
        ("without", "", "without.mine exposes no STUDY"),
        ("misnamed", "from toy_studies.exponential import STUDY", "holds study 'exponential'"),
    ],
)
def test_module_that_is_no_study_is_refused(
    package: str, source: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").touch()
    (tmp_path / package / "mine.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=message):
        discover(package)
