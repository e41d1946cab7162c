"""Files, tables and plots of a fit."""

import json
import xml.etree.ElementTree as ET
from dataclasses import replace

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import eeqs

mpl.use("agg")

FIELDS = ("bread", "meat", "covariance", "inverse")


@pytest.fixture
def fit(frame):
    return eeqs.estimate(eeqs.moments.logit("binary", ["x", "z"]), frame, cov=eeqs.Cluster("firm")).with_df(9)


def _assert_same(ours, other):
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(ours, field), getattr(other, field))
    np.testing.assert_array_equal(ours.solution.theta, other.solution.theta)
    for field in ("names", "nobs", "cov_type", "df"):
        assert getattr(ours, field) == getattr(other, field)
    assert ours.solution.status is other.solution.status
    assert ours.solution.iterations == other.solution.iterations
    np.testing.assert_array_equal(ours.solution.residual_norm, other.solution.residual_norm)
    np.testing.assert_array_equal(ours.solution.condition, other.solution.condition)


def test_a_loaded_fit_answers_what_needs_no_data(fit, tmp_path):
    path = tmp_path / "fit.json"
    fit.save(path)
    loaded = eeqs.load(path)
    _assert_same(loaded, fit)
    assert str(loaded) == str(fit)
    pd.testing.assert_frame_equal(loaded.conf_int(), fit.conf_int())
    assert loaded.wald(["x", "z"]) == fit.wald(["x", "z"])
    np.testing.assert_array_equal(loaded.delta(lambda b: b[1] / b[2]).bse, fit.delta(lambda b: b[1] / b[2]).bse)
    assert loaded.simultaneous().critical == fit.simultaneous().critical
    for needs_rows in ("influence", "leave_one_out", "data"):
        with pytest.raises(eeqs.DataError, match="loaded from a file"):
            getattr(loaded, needs_rows)()
    assert [p.name for p in tmp_path.iterdir()] == ["fit.json"]


def test_influence_travels_in_parquet(frame, tmp_path):
    psi = eeqs.moments.mean("y")
    frame = frame.set_index(pd.Index([f"row {i}" for i in range(150)], name="id"))
    fits = [eeqs.estimate(psi, part) for part in (frame, frame.iloc[30:])]
    for k, fit in enumerate(fits):
        fit.save(tmp_path / f"{k}.json", influence=True)
    loaded = [eeqs.load(tmp_path / f"{k}.json") for k in range(2)]
    pd.testing.assert_frame_equal(loaded[0].influence(), fits[0].influence())
    assert eeqs.contrast(*loaded).bse.iloc[0] == eeqs.contrast(*fits).bse.iloc[0]
    with pytest.raises(eeqs.DataError, match="loaded from a file"):
        eeqs.contrast(*loaded, clusters="firm")
    (tmp_path / "0.influence.parquet").unlink()
    with pytest.raises(eeqs.DataError, match="is missing; keep the two files together"):
        eeqs.load(tmp_path / "0.json")
    weighted = eeqs.estimate(eeqs.weight(psi, "w", kind="frequency"), frame)
    with pytest.raises(eeqs.DataError, match="frequency weights"):
        weighted.save(tmp_path / "w.json", influence=True)


def test_failed_and_singular_fits_survive(frame, tmp_path):
    twice = eeqs.moments.least_squares("y", ["x", "copy"])
    singular = eeqs.estimate(twice, frame.assign(copy=frame["x"]), minimum_norm=True)
    failed = eeqs.estimate(lambda t, d: t**2 + 1 + 0 * d["y"], {"y": np.ones(9)}, [1.0], throw=False)
    for fit in (singular, failed):
        fit.save(tmp_path / "fit.json")  # the second replaces the first
        _assert_same(eeqs.load(tmp_path / "fit.json"), fit)
    singular.save(tmp_path / "fit.json")
    with pytest.raises(eeqs.NotEstimableError):
        eeqs.load(tmp_path / "fit.json").delta(lambda b: b[1])


@given(
    numbers=arrays(np.float64, (4, 3, 3), elements=st.floats(width=64)),
    names=st.lists(st.text(min_size=1, max_size=8), min_size=3, max_size=3, unique=True),
    nobs=st.one_of(st.integers(1, 2**53), st.floats(1e-3, 1e300)),
    df=st.one_of(st.none(), st.floats(1e-3, 1e300)),
)
def test_every_bit_returns(tmp_path_factory, numbers, names, nobs, df):
    template = eeqs.estimate(eeqs.moments.mean("a"), {"a": np.arange(9.0)})
    solution = replace(template.solution, theta=torch.from_numpy(numbers[0, 0]), condition=float(numbers[0, 1, 1]))
    matrices = dict(zip(FIELDS, map(torch.from_numpy, numbers), strict=True))
    fit = replace(template, solution=solution, names=tuple(names), nobs=nobs, df=df, **matrices)
    path = tmp_path_factory.mktemp("saved") / "fit.json"
    fit.save(path)
    loaded = eeqs.load(path)
    _assert_same(loaded, fit)
    assert type(loaded.nobs) is type(nobs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(version=2), "format version 2"),
        (lambda c: c.update(format="other"), "not a saved estimate"),
        (lambda c: c.pop("theta"), "no entry 'theta'"),
        (lambda c: c.update(theta=[1.0]), '"theta" has shape'),
        (lambda c: c.update(theta=[1.0, 2.0, "os.remove"]), "not a number"),
        (lambda c: c.update(theta=[1.0, 2.0, None]), "not a number"),
        (lambda c: c["covariance"].pop(), '"covariance" has shape'),
        (lambda c: c["covariance"][0].pop(), "damaged"),
        (lambda c: c.update(status="FINE"), "unknown status 'FINE'"),
        (lambda c: c.update(names=[1, 2, 3]), "not text"),
        (lambda c: c.update(nobs=-1), "nobs is -1"),
        (lambda c: c.update(df=-1), "df is -1"),
        (lambda c: c.update(influence="../secret.parquet"), "another directory"),
    ],
)
def test_damaged_files_are_refused(fit, tmp_path, change, message):
    path = tmp_path / "fit.json"
    fit.save(path)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(eeqs.DataError, match=message):
        eeqs.load(path)


def test_other_files_are_refused_and_nothing_half_written_is_left(fit, tmp_path, monkeypatch):
    path = tmp_path / "fit.json"
    path.write_bytes(b"\x80\x04\x95")  # the start of a pickle
    with pytest.raises(eeqs.DataError, match="not a JSON file"):
        eeqs.load(path)
    path.write_text("[1, 2")
    with pytest.raises(eeqs.DataError, match="not a JSON file"):
        eeqs.load(path)
    with pytest.raises(FileNotFoundError):
        eeqs.load(tmp_path / "none.json")
    fit.save(path)
    before = path.read_bytes()

    def full(_):
        raise OSError(28, "no space left")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        fit.save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["fit.json"]


# ---- tables


def test_summary_in_text_html_and_latex():
    rng = np.random.default_rng(0)
    names = ["[T.b]", "x_1", "a&b", "50%", "I(x < 2)", "~^\\{}"]
    data = {name: rng.normal(size=40) for name in names} | {"y": rng.normal(size=40)}
    fit = eeqs.estimate(eeqs.moments.least_squares("y", names), data)
    latex = fit.summary().as_latex()
    for escaped in (
        r"x\_1",
        r"a\&b",
        r"50\%",
        r"\textless{}",
        r"\textasciitilde{}\textasciicircum{}\textbackslash{}\{\}",
    ):
        assert escaped in latex
    rows = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert all(row.replace(r"\&", "").count("&") == 6 for row in rows[1:])
    table = ET.fromstring(fit._repr_html_())  # noqa: S314 - our own text; raises unless it is well formed
    cells = [["".join(cell.itertext()) for cell in row] for row in table.findall("tr")]
    assert [row[0] for row in cells[1:]] == ["Intercept", *names]
    assert cells[3][1] == f"{fit.params['x_1']:.3e}"  # small numbers are scientific, and never 0.0000
    text = fit.summary(svalues=True).as_text()
    assert "bits" in text
    assert f"{fit.svalues['x_1']:.3f}" in text
    assert len({len(line) for line in text.splitlines()[1:]}) == 1
    assert repr(fit).endswith(str(fit))


def test_summary_says_when_derivatives_are_numerical(frame):
    psi = eeqs.from_numpy(lambda t, d: d["y"] - t[0], columns=["y"])
    assert "derivatives by differences" in str(eeqs.estimate(psi, frame, [0.0]))
    assert "derivatives" not in str(eeqs.estimate(eeqs.moments.mean("y"), frame))


# ---- plots


def test_forest_plot_shows_estimates_and_intervals(fit, frame):
    axes = fit.plot_coefficients(names=["z", "x"], alpha=0.1)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["z", "x"]
    interval = fit.conf_int(0.1).loc[["z", "x"]]
    segments = axes.collections[0].get_segments()
    np.testing.assert_allclose([s[:, 0] for s in segments], interval.to_numpy())
    np.testing.assert_allclose(axes.lines[1].get_xdata(), fit.params[["z", "x"]])
    assert "90 % interval" in axes.get_xlabel()
    assert axes.yaxis_inverted()
    with pytest.raises(ValueError, match="unknown parameter"):
        fit.plot_coefficients(names=["q"])
    singular = eeqs.moments.least_squares("y", ["x", "copy"])
    fit = eeqs.estimate(singular, frame.assign(copy=frame["x"]), minimum_norm=True)
    assert "copy (not estimable)" in [label.get_text() for label in fit.plot_coefficients(axes).get_yticklabels()]
    plt.close("all")


def test_influence_plot_marks_the_largest(frame):
    frame = frame.set_index(pd.Index([f"r{i}" for i in range(150)]))
    fit = eeqs.estimate(eeqs.moments.least_squares("y", ["x", "z"]), frame)
    distance = fit.leave_one_out().distance
    axes = fit.plot_influence(label=2)
    assert [text.get_text() for text in axes.texts] == list(distance.sort_values(ascending=False).index[:2])
    assert axes.get_xlabel() == "row of the data"
    assert fit.plot_influence(axes) is axes
    plt.close("all")
