"""Rows read in blocks give what all rows at once give, in memory that does not grow with their number."""

import subprocess
import sys

import numpy as np
import pandas as pd
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


def _curved(theta, data):
    residual = data["y"] - theta[0] - theta[1].exp() * data["x"]
    return torch.stack([residual, residual * data["x"]], dim=1)


def _surrogate(live, frozen, data):
    return data["b"] * live - frozen.sigmoid() * live


def _index(theta, data):
    return theta[0] + theta[1] * data["x"]


LOGIT = eeqs.moments.logit("b", ["x", "z"])
MODELS = {
    "linear index": (LOGIT, None),
    "two indices": (eeqs.moments.gamma("t", ["x", "z"]), None),
    "plain": (_plain, [0.0] * 3),
    "not through indices": (_curved, [0.0] * 2),
    "loss": (eeqs.from_loss(lambda t, d: (d["y"] - t[0] - t[1] * d["x"]).square()), [0.0] * 2),
    "surrogate": (eeqs.from_surrogate(_index, _surrogate), [0.0] * 2),
    "numpy": (eeqs.from_numpy(lambda t, d: d["y"] - t - 0.1 * np.sin(t)), [0.0]),
    "curved by frequency": (
        eeqs.weight(eeqs.EstimatingFunction(_curved, columns=("x", "y")), "w", kind="frequency"),
        [0.0] * 2,
    ),
    "probability weights": (eeqs.weight(LOGIT, "w"), None),
    "frequency weights": (eeqs.weight(LOGIT, "w", kind="frequency"), None),
    "ridge": (eeqs.ridge(LOGIT, 0.1), None),
    "stack": (eeqs.stack(a=eeqs.moments.mean("x"), b=lambda t, d, a: d["y"] * d["x"] - a * t), None),
}


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


@pytest.mark.parametrize("psi", [LOGIT, eeqs.EstimatingFunction(_plain)], ids=["linear index", "plain"])
def test_a_block_of_rows_that_stand_for_none(sample, psi, monkeypatch):
    """Sorted frequency weights make whole blocks weigh nothing."""
    data = sample.drop(columns="firm").sort_values("w")
    weighted = eeqs.weight(psi, "w", kind="frequency")
    whole = eeqs.estimate(weighted, data, [0.0] * 3)
    monkeypatch.setattr(evaluate, "_BLOCK_NUMBERS", 1)
    np.testing.assert_allclose(eeqs.estimate(weighted, data, [0.0] * 3).bse, whole.bse, rtol=1e-9)


def test_rows_that_interact_are_refused(sample):
    def centred(theta, data):
        return (data["y"] - data["y"].mean()) * data["x"] - theta

    data = {"y": np.tile(sample["y"], 100), "x": np.tile(sample["x"], 100)}
    with pytest.raises(eeqs.PsiError, match="a row of psi depends on other rows"):
        eeqs.estimate(centred, data, [0.0])
    fit = eeqs.estimate(eeqs.EstimatingFunction(lambda t, d: centred(t, d)[:, None], separable=False), data, [0.0])
    assert fit.params.iloc[0] == pytest.approx(np.cov(data["y"], data["x"], ddof=0)[0, 1], rel=1e-9)


INTERACTING = {
    "means of halves are equal in sorted data": lambda t, d: (d["s"] - d["s"].mean()) * d["x"] - t,
    "a small equation beside a large one": lambda t, d: torch.stack(
        [1e12 * (d["x"] - t[0]), d["x"] - t[1] + d["y"].mean()], dim=1
    ),
}


@pytest.mark.parametrize("name", INTERACTING)
def test_interactions_that_hide_are_refused(sample, name, monkeypatch):
    """The column s is zero in the first blocks, where its mean cannot be told from none."""
    monkeypatch.setattr(evaluate, "_BLOCK_NUMBERS", 1)
    data = {"x": sample["x"], "y": sample["y"], "s": (np.arange(3000) > 1000).astype(float)}
    start = [0.0] * (1 if "halves" in name else 2)
    with pytest.raises(eeqs.PsiError, match="a row of psi depends on other rows"):
        eeqs.estimate(INTERACTING[name], data, start)


def test_rows_lost_in_a_later_block(sample, monkeypatch):
    monkeypatch.setattr(evaluate, "_BLOCK_NUMBERS", 1)
    data = {"y": np.r_[np.zeros(2900), -9.0 * np.ones(100)], "x": sample["x"]}
    # The probe of rows spread over the data keeps its rows below the cut.
    with pytest.raises(eeqs.PsiError, match=r"psi returned|depends on other rows"):
        eeqs.estimate(lambda t, d: (d["y"] - t)[d["y"] > -5], data, [0.0])


def test_prepared_tensors_without_the_axis_of_rows(sample, monkeypatch):
    monkeypatch.setattr(evaluate, "_BLOCK_NUMBERS", 1)
    psi = eeqs.EstimatingFunction(
        lambda t, d: d[0] - t * d[1].sum(), prepare=lambda leaves: (leaves["y"], torch.ones(3, dtype=torch.float64))
    )
    with pytest.raises(eeqs.PsiError, match=r"shapes \[\(3000,\), \(3,\)\] from 3000 rows"):
        eeqs.estimate(psi, {"y": sample["y"]}, [0.0])


_PEAK = """
import torch, eeqs
from pathlib import Path
from eeqs.engine import evaluate
torch.set_num_threads(1)

def psi(theta, data):
    return (data["y"] - torch.sigmoid(data["X"] @ theta))[:, None] * data["X"]

def memory(line):
    return next(1024 * int(x.split()[1]) for x in Path("/proc/self/status").read_text().splitlines() if x[:6] == line)

def growth(n, batches=0):
    data = {"X": torch.rand(n, 10, dtype=torch.float64), "y": torch.rand(n, dtype=torch.float64)}
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before = memory("VmRSS:")
    source = (lambda: ({k: v.clone() for k, v in data.items()} for _ in range(batches))) if batches else data
    eeqs.estimate(psi, source, [0.0] * 10)
    return memory("VmHWM:") - before

torch.manual_seed(0)
growth(1000), growth(1000, 2)
print(growth(50_000, 2), growth(50_000, 20), growth(100_000), growth(400_000))
evaluate._BLOCK_NUMBERS = 2**60
print(growth(1_000_000))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_memory_does_not_grow_with_the_number_of_rows():
    """Peak of a fresh process beyond the data: 24 MiB for every n, where psi alone takes 32 MB at n = 400,000.

    Two and twenty batches of 4.4 MB, then 100,000 and 400,000 rows in memory. A million read in one block take more: 80
    MB of psi, of which memory that the process already holds may serve a part.
    """
    output = subprocess.run([sys.executable, "-c", _PEAK], capture_output=True, text=True, check=True).stdout  # noqa: S603
    blocks, one = ([int(number) for number in line.split()] for line in output.splitlines())
    assert max(blocks) < 24 * 2**20
    assert one[0] > 40e6
