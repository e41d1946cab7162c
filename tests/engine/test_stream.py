"""Batches from iterables, functions and parquet give what memory gives, and bad sources are named."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import eeqs
from eeqs.engine import door


@pytest.fixture
def sample():
    rng = np.random.default_rng(33)
    n = 3000
    x, z = rng.normal(size=(2, n))
    index = 0.2 + 0.5 * x - 0.3 * z
    return pd.DataFrame(
        {
            "x": x,
            "z": z,
            "y": index + rng.normal(size=n),
            "b": (rng.uniform(size=n) < 1 / (1 + np.exp(-index))).astype(float),
            "t": np.exp(index + rng.normal(size=n)),
            "w": rng.integers(0, 4, size=n),
            "firm": np.array([f"firm {k}" for k in rng.integers(50, size=n)]),
        }
    )


def _plain(theta, data):
    design = torch.stack([torch.ones_like(data["x"]), data["x"], data["z"]], dim=1)
    return (data["b"] - torch.sigmoid(design @ theta))[:, None] * design


LOGIT = eeqs.moments.logit("b", ["x", "z"])
MODELS = {
    "plain": (_plain, [0.0] * 3),
    "two indices": (eeqs.moments.gamma("t", ["x", "z"]), None),
    "frequency weights": (eeqs.weight(LOGIT, "w", kind="frequency"), None),
    "ridge": (eeqs.ridge(LOGIT, 0.1), None),
    "numpy": (eeqs.from_numpy(lambda t, d: d["y"] - t - 0.1 * np.sin(t)), [0.0]),
}


class Batches:
    """An iterable that can be iterated again, of unequal batches, one of them empty."""

    def __init__(self, frame, cuts=(0, 1, 7, 7, 900, 1800, 3000)):
        self.frame, self.cuts = frame, cuts

    def __iter__(self):
        for start, stop in zip(self.cuts, self.cuts[1:], strict=False):
            yield self.frame.iloc[start:stop]


def _write(frame, path):
    pq.write_table(pa.Table.from_pandas(frame), path, row_group_size=700)
    return path


def _write_parts(frame, folder):
    for k in range(3):
        _write(frame.iloc[k::3], folder / f"part{k}.parquet")
    return folder


SOURCES = {
    "iterable": lambda frame, _: Batches(frame),
    "function": lambda frame, _: lambda: iter(Batches(frame)),
    "file": lambda frame, folder: _write(frame, folder / "data.parquet"),
    "path as text": lambda frame, folder: str(_write(frame, folder / "data.parquet")),
    "directory": _write_parts,
    "mappings of tensors": lambda frame, _: (
        lambda: (
            {name: torch.tensor(b[name].to_numpy()) for name in b if name != "firm"} | {"firm": b["firm"].to_numpy()}
            for b in Batches(frame)
        )
    ),
}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("cov", ["HC0", "HC1", "HC3", eeqs.Cluster("firm"), eeqs.TwoWay("firm", "w")], ids=str)
def test_batches_equal_memory(sample, source, cov, tmp_path):
    data = SOURCES[source](sample, tmp_path)
    whole, streamed = eeqs.estimate(LOGIT, sample, cov=cov), eeqs.estimate(LOGIT, data, cov=cov)
    np.testing.assert_allclose(streamed.params, whole.params, rtol=1e-9)
    np.testing.assert_allclose(streamed.cov_params(), whole.cov_params(), rtol=1e-9, atol=1e-15)
    assert streamed.nobs == whole.nobs


@pytest.mark.parametrize("model", MODELS)
def test_models_on_batches(sample, model):
    psi, start = MODELS[model]
    frame = sample.drop(columns="firm")
    whole, streamed = eeqs.estimate(psi, frame, start), eeqs.estimate(psi, Batches(frame), start)
    np.testing.assert_allclose(streamed.bse, whole.bse, rtol=1e-8)
    np.testing.assert_allclose(streamed.influence(), whole.influence(), rtol=1e-6, atol=1e-8)


def test_formulas_on_batches(sample):
    psi = eeqs.moments.least_squares.from_formula("y ~ x * C(w)", sample)
    whole, streamed = eeqs.estimate(psi, sample), eeqs.estimate(psi, Batches(sample))
    np.testing.assert_allclose(streamed.bse, whole.bse, rtol=1e-9)


def _once(frame, _):
    return iter(Batches(frame))


def _shrinking(frame, _):
    stops = iter([3000, 3000, 2900] + [2900] * 50)
    return lambda: iter([frame.iloc[: next(stops)]])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (_once, "can be read only once"),
        (_shrinking, "it must be repeatable"),
        (lambda _, folder: folder / "absent.parquet", "no parquet file"),
        (lambda frame, folder: _write(frame.drop(columns="z"), folder / "d.parquet"), 'unknown column "z"'),
        (lambda frame, folder: _write(frame.iloc[:0], folder / "d.parquet"), "no rows"),
        (
            lambda frame, folder: _write(frame.assign(x=frame["x"].where(frame["x"] < 2)), folder / "d.parquet"),
            '"x" has',
        ),
        (lambda *_: lambda: iter([]), "no rows"),
    ],
    ids=["once", "shrinking", "absent", "column", "empty file", "missing", "no batches"],
)
def test_bad_sources_are_named(sample, source, message, tmp_path):
    with pytest.raises(eeqs.DataError, match=message):
        eeqs.estimate(LOGIT, source(sample, tmp_path))


def test_a_file_that_is_not_parquet(tmp_path):
    path = tmp_path / "text.parquet"
    path.write_text("not parquet")
    with pytest.raises(eeqs.DataError, match="not readable as parquet"):
        eeqs.estimate(LOGIT, path)


def test_psi_that_needs_all_rows_takes_no_batches(sample):
    with pytest.raises(eeqs.PsiError, match="needs all rows at once"):
        eeqs.estimate(eeqs.moments.quantile("y"), Batches(sample))


def test_one_label_in_all_batches(sample):
    with pytest.raises(eeqs.DataError, match="same label"):
        eeqs.estimate(LOGIT, Batches(sample.assign(firm="one")), cov=eeqs.Cluster("firm"))


def test_rows_of_bad_values_are_counted_from_the_start_of_their_batch(sample):
    broken = sample.assign(x=sample["x"].where(sample.index != 1500))
    with pytest.raises(eeqs.DataError, match=r'batch that starts at row 900: column "x" has 1 row.* first at row 600'):
        eeqs.estimate(LOGIT, Batches(broken))


def test_values_of_a_later_batch_are_validated(sample, tmp_path):
    broken = sample.assign(b=sample["b"].where(sample.index != 2000, 2.0))
    with pytest.raises(eeqs.DataError, match="batch that starts at row"):
        eeqs.estimate(LOGIT, _write(broken, tmp_path / "data.parquet"))


def test_an_iterator_that_ends_up_empty(sample):
    batches = iter(Batches(sample))
    with pytest.raises(eeqs.DataError, match="return a fresh iterator every time"):
        eeqs.estimate(LOGIT, lambda: batches)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (lambda: 3, "returned a int"),
        (lambda: iter([1.0]), "at row 0: data is a float"),
        ([pd.DataFrame({"x": [1.0]})], "a list is read as columns"),
        ([{"x": [1.0]}], "a list is read as columns"),
    ],
    ids=["number", "batches of numbers", "list of frames", "list of mappings"],
)
def test_what_is_not_a_stream_is_named(data, message):
    with pytest.raises(eeqs.DataError, match=message):
        eeqs.estimate(lambda t, d: d["x"] - t, data, [0.0])


def test_tuples_as_batches(sample):
    y = sample["y"].to_numpy()
    fit = eeqs.estimate(lambda t, d: d[0] - t, lambda: iter([(y[:10],), (y[10:],)]), [0.0])
    assert fit.params.iloc[0] == pytest.approx(y.mean(), rel=1e-12)
    with pytest.raises(eeqs.DataError, match='unknown cluster column "firm"'):
        eeqs.estimate(lambda t, d: d[0] - t, lambda: iter([(y[:10],), (y[10:],)]), [0.0], cov=eeqs.Cluster("firm"))


@pytest.mark.parametrize("labels", ["int32", "float64", "category", "bool"])
def test_labels_of_any_type_meet_again_in_later_batches(sample, labels, tmp_path):
    """Categories have other codes in every batch, and dictionaries in parquet other codes in every group."""
    codes = np.random.default_rng(4).integers(2 if labels == "bool" else 9, size=len(sample))
    firm = pd.Series(codes).map(lambda k: f"firm {k}").astype("category") if labels == "category" else codes
    data = sample.assign(firm=firm if labels == "category" else firm.astype(labels))
    whole = eeqs.estimate(LOGIT, data, cov=eeqs.Cluster("firm"))

    def shrunk():
        for batch in Batches(data):
            yield batch.assign(firm=batch["firm"].cat.remove_unused_categories()) if labels == "category" else batch

    for source in (shrunk, _write(data, tmp_path / "data.parquet")):
        streamed = eeqs.estimate(LOGIT, source, cov=eeqs.Cluster("firm"))
        np.testing.assert_allclose(streamed.cov_params(), whole.cov_params(), rtol=1e-9, atol=1e-15)


def test_missing_labels_and_arrays_of_labels(sample):
    with pytest.raises(eeqs.DataError, match=r'batch that starts at row 7: cluster column "firm" has 1 missing'):
        eeqs.estimate(
            LOGIT, Batches(sample.assign(firm=sample["firm"].where(sample.index != 8))), cov=eeqs.Cluster("firm")
        )
    with pytest.raises(eeqs.DataError, match="must be a column of its batches"):
        eeqs.estimate(LOGIT, Batches(sample), cov=eeqs.Cluster(sample["firm"].to_numpy()))


def test_preparing_that_needs_all_rows_is_refused(sample):
    """Centred at the mean of its batch, every batch would be centred elsewhere."""
    psi = eeqs.EstimatingFunction(
        lambda t, d: d["y"] - t, columns=("y",), prepare=lambda leaves: {"y": leaves["y"] - leaves["y"].mean()}
    )
    with pytest.raises(eeqs.PsiError, match="prepare makes a row of this psi depend on other rows"):
        eeqs.estimate(psi, lambda: iter([sample]), [0.0])


def test_psi_whose_rows_interact_is_refused(sample):
    with pytest.raises(eeqs.PsiError, match="a row of psi depends on other rows"):
        eeqs.estimate(lambda t, d: d["y"] - d["x"].mean() - t, lambda: iter([sample[["x", "y"]]]), [0.0])


def test_the_start_is_that_of_the_first_batch(sample):
    """A start of its own is read from the first batch, which a psi with many roots would show."""
    psi = eeqs.EstimatingFunction(
        lambda t, d: d["y"] - t, columns=("y",), start=lambda d: d["y"][:1] + 1000.0 * (len(d["y"]) != 1)
    )
    problem = door.as_problem(psi, Batches(sample))
    assert float(door.as_theta(problem, None)) == sample["y"].iloc[0]
