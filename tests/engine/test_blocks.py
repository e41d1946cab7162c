"""Rows read in blocks, from memory, from batches and from parquet, give what all rows at once give."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import eeqs
from eeqs.engine import evaluate


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
    "linear index": (LOGIT, None),
    "two indices": (eeqs.moments.gamma("t", ["x", "z"]), None),
    "plain": (_plain, [0.0] * 3),
    "not through indices": (lambda t, d: d["y"] - t[0] - t[1].exp() * d["x"], None),
    "loss": (eeqs.from_loss(lambda t, d: (d["y"] - t[0] - t[1] * d["x"]).square()), [0.0] * 2),
    "probability weights": (eeqs.weight(LOGIT, "w"), None),
    "frequency weights": (eeqs.weight(LOGIT, "w", kind="frequency"), None),
    "ridge": (eeqs.ridge(LOGIT, 0.1), None),
    "stack": (eeqs.stack(a=eeqs.moments.mean("x"), b=lambda t, d, a: d["y"] * d["x"] - a * t), None),
}
MODELS["not through indices"] = (
    lambda t, d: torch.stack([d["y"] - t[0] - t[1].exp() * d["x"], (d["y"] - t[0] - t[1].exp() * d["x"]) * d["x"]], 1),
    [0.0, 0.0],
)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("cov", ["HC0", "HC1", eeqs.Cluster("firm")], ids=str)
def test_small_blocks_change_nothing(sample, model, cov, monkeypatch):
    psi, start = MODELS[model]
    whole = eeqs.estimate(psi, _numeric(sample, cov), start, cov=cov)
    monkeypatch.setattr(evaluate, "_BLOCK_NUMBERS", 1)
    blocks = eeqs.estimate(psi, _numeric(sample, cov), start, cov=cov)
    np.testing.assert_allclose(blocks.params, whole.params, rtol=1e-9)
    np.testing.assert_allclose(blocks.cov_params(), whole.cov_params(), rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(blocks.influence(), whole.influence(), rtol=1e-7, atol=1e-9)


def _numeric(frame, cov):
    """Plain functions read every column, so text is left out unless it is the cluster."""
    return frame if cov not in ("HC0", "HC1") else frame.drop(columns="firm")


def test_rows_that_interact_are_refused(sample):
    def centred(theta, data):
        return (data["y"] - data["y"].mean()) * data["x"] - theta

    data = {"y": np.tile(sample["y"], 100), "x": np.tile(sample["x"], 100)}
    with pytest.raises(eeqs.PsiError, match="a row of psi depends on other rows"):
        eeqs.estimate(centred, data, [0.0])
    fit = eeqs.estimate(eeqs.EstimatingFunction(lambda t, d: centred(t, d)[:, None], separable=False), data, [0.0])
    assert fit.params.iloc[0] == pytest.approx(np.cov(data["y"], data["x"], ddof=0)[0, 1], rel=1e-9)


class Batches:
    """An iterable that can be iterated again, of unequal batches."""

    def __init__(self, frame, cuts=(0, 7, 900, 1800, 3000)):
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


@pytest.mark.parametrize("model", ["plain", "two indices", "frequency weights", "ridge"])
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


_PEAK = """
import resource, sys, torch, numpy as np, eeqs
torch.set_num_threads(1)
n, source = int(sys.argv[1]), sys.argv[2]
def batch(k, size=50_000):
    rng = np.random.default_rng(k)
    X = rng.normal(size=(size, 10))
    return {"y": (rng.uniform(size=size) < 0.5).astype(float), **{f"x{j}": X[:, j] for j in range(10)}}
psi = eeqs.moments.logit("y", [f"x{j}" for j in range(10)])
eeqs.estimate(psi, batch(0))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
eeqs.estimate(psi, lambda: (batch(k) for k in range(n // 50_000)))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


def test_memory_does_not_grow_with_the_number_of_batches():
    """Four and sixteen batches of 4.4 MB: within a quarter of the 53 MB that twelve more would take."""
    peaks = []
    for n in (200_000, 800_000):
        command = [sys.executable, "-c", _PEAK, str(n), "batches"]
        peaks.append(int(subprocess.run(command, capture_output=True, text=True, check=True).stdout))  # noqa: S603
    assert peaks[1] - peaks[0] < 0.25 * 12 * 4.4e6
