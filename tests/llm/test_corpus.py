"""Documents: what is read, what is refused at the door with file and line, and folds."""

import json
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eeqs.engine.errors import DataError
from eeqs.llm.corpus import Document, dataset, folds, hub_dataset, read_documents

# Their tests exist where the data is.
FOLDER = os.environ.get("EEQS_DATA")
SETS = sorted(path.name.removesuffix(".jsonl") for path in Path(FOLDER).glob("*.jsonl")) if FOLDER else []


@pytest.fixture
def lines(tmp_path: Path):
    def write(*content: object) -> Path:
        encoded = [one if isinstance(one, bytes) else json.dumps(one).encode() for one in content]
        path = tmp_path / "set.jsonl"
        path.write_bytes(b"\n".join(encoded) + b"\n")
        return path

    return write


def test_documents_in_the_order_of_the_file(lines) -> None:
    path = lines({"id": "b", "text": "zwei Wörter"}, {"id": 7, "text": "line\u2028separator\n"}, {"text": "nameless"})
    assert read_documents(path) == [
        Document("b", "zwei Wörter"), Document("7", "line\u2028separator\n"), Document("set:3", "nameless"),
    ]  # fmt: skip
    assert [document.id for document in read_documents(str(path), 2)] == ["b", "7"]
    assert Document("b", "zwei Wörter").n_bytes == 12


def test_fields_make_up_a_document(lines) -> None:
    path = lines({"question": "1 + 1?", "answer": "2"})
    assert read_documents(path, fields=("question", "answer")) == [Document("set:1", "1 + 1?\n2")]


GOOD = {"id": "a", "text": "fine"}


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (b'{"id": "b", "text": "caf\xe9"}', r"set\.jsonl, line 2: byte 24 is not UTF-8"),
        (b'{"id": "b", "text": "cut', r"set\.jsonl, line 2: not JSON"),
        (b"", r"set\.jsonl, line 2: not JSON"),
        (b'["text"]', r"set\.jsonl, line 2: a list, not an object with text"),
        ({"id": "b", "words": "x"}, r'line 2: there is no text in "text"; the record has id, words'),
        ({"id": "b", "text": 3}, r'line 2: there is no text in "text"'),
        ({"id": "b", "text": ""}, r'line 2: document "b" is empty'),
        ({"id": "b", "text": " \n\t"}, r'line 2: document "b" is empty'),
        ({"id": "a", "text": "x"}, r'set\.jsonl: line 1 and line 2 are both called "a"'),
        (b'{"id": "b", "text": "half \\ud83d"}', r'line 2: document "b" has an unpaired surrogate at character 5'),
    ],
)
def test_a_line_that_is_no_document_is_refused_by_name(lines, second: object, message: str) -> None:
    path = lines(GOOD, second, {"id": "c", "text": "never reached"})
    with pytest.raises(DataError, match=message):
        read_documents(path)
    assert read_documents(path, 1) == [Document("a", "fine")]


def test_files_that_are_missing_or_empty(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no file .*absent\.jsonl"):
        read_documents(tmp_path / "absent.jsonl")
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(DataError, match=r"empty\.jsonl has no documents"):
        read_documents(tmp_path / "empty.jsonl")
    with pytest.raises(ValueError, match="limit is 0"):
        read_documents(tmp_path / "empty.jsonl", 0)


def test_data_sets_by_name(lines, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = lines(GOOD).parent
    monkeypatch.setenv("EEQS_DATA", str(folder))
    assert dataset("set") == [Document("a", "fine")]
    with pytest.raises(DataError, match=r'no data set "other" in .*; it has set\.'):
        dataset("other")
    monkeypatch.setenv("EEQS_DATA", str(folder / "nowhere"))
    with pytest.raises(DataError, match="which is no folder"):
        dataset("set")
    monkeypatch.delenv("EEQS_DATA")
    with pytest.raises(DataError, match="EEQS_DATA is not set; set it to the folder of the data sets"):
        dataset("set")


if SETS:

    @pytest.mark.parametrize("name", SETS)
    def test_the_data_sets_of_this_machine(name: str) -> None:
        fields = ("question", "answer") if name.startswith("gsm8k") else ("text",)
        assert len(dataset(name, 20, fields=fields)) == 20


def _hub(monkeypatch: pytest.MonkeyPatch, records: object) -> list[tuple[object, ...]]:
    calls = []

    def load_dataset(name: str, configuration: str | None, *, split: str, streaming: bool) -> object:
        calls.append((name, configuration, split, streaming))
        if isinstance(records, Exception):
            raise records
        return iter(records)

    library = ModuleType("datasets")
    library.load_dataset = load_dataset
    monkeypatch.setitem(sys.modules, "datasets", library)
    return calls


def test_hub_data_sets_are_documents_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = _hub(monkeypatch, [{"question": "a?", "answer": "b"}, {"question": "c?", "answer": "d"}])
    fields = ("question", "answer")
    assert hub_dataset("who/what", "test", 1, configuration="main", fields=fields) == [
        Document("who/what/test:0", "a?\nb")
    ]
    assert calls == [("who/what", "main", "test", True)]
    _hub(monkeypatch, [{"text": "x"}, {"text": " "}])
    with pytest.raises(DataError, match=r'who/what/test, record 1: document "who/what/test:1" is empty'):
        hub_dataset("who/what", "test")


def test_without_library_or_network_the_hub_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    _hub(monkeypatch, ConnectionError("no route"))
    with pytest.raises(DataError, match=r"who/what/test cannot be read .*no route.*check name"):
        hub_dataset("who/what", "test")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match="pip install datasets"):
        hub_dataset("who/what", "test")


CORPORA = st.lists(st.text("aé€", min_size=1, max_size=60), min_size=2, max_size=40).map(
    lambda texts: [Document(f"d{index}", text) for index, text in enumerate(texts)]
)


@given(CORPORA, st.integers(2, 5), st.integers(0, 9), st.randoms(use_true_random=False))
def test_folds_are_disjoint_balanced_and_deterministic(documents, n, seed, random) -> None:
    if len(documents) < n:
        with pytest.raises(DataError, match="cannot fill"):
            folds(documents, n, seed)
        return
    found = folds(documents, n, seed)
    assert sorted(document.id for fold in found for document in fold) == sorted(one.id for one in documents)
    totals = [sum(document.n_bytes for document in fold) for fold in found]
    assert max(totals) - min(totals) <= max(document.n_bytes for document in documents)
    assert max(map(len, found)) - min(map(len, found)) <= 1
    shuffled = random.sample(documents, len(documents))
    again = [{document.id for document in fold} for fold in folds(shuffled, n, seed)]
    assert again == [{document.id for document in fold} for fold in found]
    assert all(fold == [one for one in documents if one in fold] for fold in found)


def test_seeds_give_folds_of_their_own_and_nonsense_is_refused() -> None:
    documents = [Document(str(index), "x" * (index + 1)) for index in range(20)]
    assert len({tuple(document.id for document in folds(documents, 2, seed)[0]) for seed in range(5)}) == 5
    with pytest.raises(ValueError, match="n is 1"):
        folds(documents, 1, 0)
    with pytest.raises(DataError, match='two documents are called "3"'):
        folds([*documents, documents[3]], 2, 0)
