"""Two-way clusters and the jackknife against refits, closed forms and published digits; laws of clustered kinds."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import statsmodels.stats.tests
import torch
from hypothesis import given
from hypothesis import strategies as st

import eeqs
import eeqs.engine.transform
from eeqs.engine import evaluate
from eeqs.engine.covariance import refit

OLS = eeqs.moments.least_squares("y", ["x", "z"])
LOGIT = eeqs.moments.logit("binary", ["x", "z"])


@pytest.fixture
def panel(frame):
    """The shared data with a second dimension of twelve periods."""
    return frame.assign(period=np.random.default_rng(3).integers(0, 12, len(frame)))


@pytest.fixture(scope="module")
def petersen():
    path = Path(statsmodels.stats.tests.__file__).parent / "test_data.txt"
    return pd.read_csv(path, sep=r"\s+", header=None, names=["firm", "year", "x", "y"])


def _design(frame):
    return np.column_stack([np.ones(len(frame)), frame["x"], frame["z"]])


def _covariance(psi, frame, cov, theta0=None):
    return eeqs.estimate(psi, frame, theta0, cov).cov_params().to_numpy()


def test_two_way_petersen(petersen):
    """Petersen's page prints four decimals."""
    fit = eeqs.estimate(eeqs.moments.least_squares("y", ["x"]), petersen, cov=eeqs.TwoWay("firm", "year", "CR1S"))
    np.testing.assert_allclose(fit.bse, [0.0651, 0.0536], atol=5e-5)
    assert fit.cov_type == "CR1S(firm and year)"


@pytest.mark.parametrize(("kind", "correction"), [("CR0", False), ("CR1S", True)])
def test_two_way_is_statsmodels(petersen, kind, correction):
    codes = petersen[["firm", "year"]].to_numpy()
    fit = sm.OLS(petersen["y"], sm.add_constant(petersen["x"])).fit()
    expected = sm.stats.sandwich_covariance.cov_cluster_2groups(
        fit, codes[:, 0], group2=codes[:, 1], use_correction=correction
    )[0]
    covariance = _covariance(eeqs.moments.least_squares("y", ["x"]), petersen, eeqs.TwoWay("firm", "year", kind))
    np.testing.assert_allclose(covariance, expected, rtol=1e-9)


def test_two_way_of_single_rows_is_one_way(panel):
    rows = np.arange(len(panel))
    two, one = eeqs.TwoWay("firm", rows, "CR0"), eeqs.Cluster("firm", "CR0")
    np.testing.assert_allclose(_covariance(OLS, panel, two), _covariance(OLS, panel, one), rtol=1e-12)
    plus = eeqs.TwoWay("firm", rows, "CR0", intersection=False)
    expected = _covariance(OLS, panel, one) + _covariance(OLS, panel, "HC0")
    np.testing.assert_allclose(_covariance(OLS, panel, plus), expected, rtol=1e-12)
    assert plus.label == "CR0(firm plus labels)"


def test_two_way_in_blocks_and_streams(panel, monkeypatch):
    numbers = panel.assign(firm=panel["firm"].str[5:].astype(int))[["y", "x", "z", "firm", "period"]]
    cov = eeqs.TwoWay("period", "firm")
    expected = _covariance(OLS, numbers, cov)
    monkeypatch.setattr(evaluate, "_BLOCK_NUMBERS", 100)
    monkeypatch.setattr(evaluate, "_FEWEST_ROWS", 8)
    np.testing.assert_allclose(_covariance(OLS, numbers, cov), expected, rtol=1e-10)
    streamed = _covariance(OLS, lambda: (numbers.iloc[k : k + 40] for k in range(0, 150, 40)), cov)
    np.testing.assert_allclose(streamed, expected, rtol=1e-10)


def test_negative_two_way_variance_is_refused():
    """Opposite neighbours cancel in every row and every column of a grid, so both one-way sums are all but zero."""
    row, column = (part.ravel() for part in np.meshgrid(range(6), range(6), indexing="ij"))
    data = {"y": (-1.0) ** (row + column), "row": row, "column": column}
    cov = eeqs.TwoWay("row", "column")
    with pytest.raises(eeqs.DataError, match=r"negative variance in the equations of mean\[y\].*intersection=False"):
        eeqs.estimate(eeqs.moments.mean("y"), data, cov=cov)
    assert (
        eeqs.estimate(eeqs.moments.mean("y"), data, cov=eeqs.TwoWay("row", "column", intersection=False)).bse.iloc[0]
        == 0
    )


def test_jackknife_is_a_loop_of_refits(frame):
    x = _design(frame)
    whole = sm.Logit(frame["binary"], x).fit(disp=0, tol=1e-14).params.to_numpy()
    without = np.array(
        [
            sm.Logit(frame["binary"][keep], x[keep]).fit(disp=0, tol=1e-14).params.to_numpy()
            for keep in ((frame["firm"] != firm).to_numpy() for firm in frame["firm"].unique())
        ]
    )
    share = (len(without) - 1) / len(without)
    for centre, point in (("estimate", whole), ("mean", without.mean(0))):
        expected = share * (without - point).T @ (without - point)
        covariance = _covariance(LOGIT, frame, eeqs.Jackknife("firm", centre))
        np.testing.assert_allclose(covariance, expected, rtol=1e-7, atol=1e-8 * expected.max())


@pytest.mark.parametrize(("by", "closed", "groups"), [("firm", eeqs.Cluster("firm", "CR3"), 11), (None, "HC3", 150)])
def test_jackknife_of_least_squares_is_the_closed_form(frame, by, closed, groups):
    assert groups == (frame["firm"].nunique() if by else len(frame))
    expected = (groups - 1) / groups * _covariance(OLS, frame, closed)
    np.testing.assert_allclose(_covariance(OLS, frame, eeqs.Jackknife(by)), expected, rtol=1e-10)


def test_jackknife_of_the_mean_is_the_textbook_variance(frame):
    fit = eeqs.estimate(eeqs.moments.mean("y"), frame, cov=eeqs.Jackknife())
    assert fit.covariance.item() == pytest.approx(frame["y"].var() / len(frame), rel=1e-10)
    assert fit.cov_type == "CV3(rows)"


@pytest.mark.parametrize("cov", [eeqs.Cluster("firm"), eeqs.Cluster("firm", "CR1S"), eeqs.TwoWay("firm", "period")])
def test_clusters_without_observations_do_not_count(panel, cov):
    """Frequency weights are duplication, also where all weights of a cluster are zero."""
    data = panel.assign(w=panel["w"].where(panel["firm"] != "firm 2", 0))
    weighted = _covariance(eeqs.weight(OLS, "w", kind="frequency"), data, cov)
    repeated = _covariance(OLS, data.loc[data.index.repeat(data["w"])], cov)
    np.testing.assert_allclose(weighted, repeated, rtol=1e-10)
    one = panel.assign(w=(panel["firm"] == "firm 0").astype(int))
    with pytest.raises(eeqs.DataError, match="only one cluster has frequency weights above zero"):
        eeqs.estimate(eeqs.weight(OLS, "w", kind="frequency"), one, cov=cov)


@pytest.mark.parametrize("by", [None, "firm"])
def test_jackknife_counts_frequency_weights(frame, by):
    frame = frame.assign(w=frame["w"].where(frame["firm"] != "firm 2", 0))
    weighted = _covariance(eeqs.weight(OLS, "w", kind="frequency"), frame, eeqs.Jackknife(by))
    repeated = _covariance(OLS, frame.loc[frame.index.repeat(frame["w"])], eeqs.Jackknife(by))
    np.testing.assert_allclose(weighted, repeated, rtol=1e-9)


def test_jackknife_one_by_one(frame):
    """A psi with its own root finder, in numpy, or whose rows depend on each other is refitted on subsets."""
    kept = [frame[frame["firm"] != firm] for firm in frame["firm"].unique()]
    medians = np.array([eeqs.estimate(eeqs.moments.quantile("y"), part).params.iloc[0] for part in kept])
    whole = eeqs.estimate(eeqs.moments.quantile("y"), frame, cov=eeqs.Jackknife("firm"))
    expected = 10 / 11 * ((medians - whole.params.iloc[0]) ** 2).sum()
    assert whole.covariance.item() == pytest.approx(expected, rel=1e-10)
    expected = _covariance(eeqs.moments.mean("y"), frame, eeqs.Jackknife("firm"))
    numbers = frame[["y", "firm"]]
    in_numpy = eeqs.from_numpy(lambda theta, data: data["y"] - theta, columns=["y"])
    np.testing.assert_allclose(_covariance(in_numpy, numbers, eeqs.Jackknife("firm"), [0.0]), expected, rtol=1e-9)
    joint = eeqs.EstimatingFunction(lambda t, d: (d["y"].mean() - t).expand(len(d["y"]), 1), separable=False)
    np.testing.assert_allclose(_covariance(joint, numbers, eeqs.Jackknife("firm"), [0.0]), expected, rtol=1e-9)


def test_jackknife_of_a_derived_parameter_is_that_of_its_values(frame):
    """Its equation is the same for all rows, and vanishes with them: refits are roots all the same."""
    log_variance = eeqs.engine.transform.derive(
        eeqs.moments.variance("y"), log_variance=lambda parameters: parameters["variance[y]"].log()
    )
    fit = eeqs.estimate(log_variance, frame, cov=eeqs.Jackknife("firm"))
    values = [np.log(frame["y"][frame["firm"] != firm].var(ddof=0)) for firm in frame["firm"].unique()]
    expected = 10 / 11 * ((values - np.log(frame["y"].var(ddof=0))) ** 2).sum()
    assert fit.bse["log_variance"] ** 2 == pytest.approx(expected, rel=1e-8)


def test_perfect_fits_have_refits_too(frame):
    exact = frame.assign(y=1 + 2 * frame["x"])
    for cov in (eeqs.Jackknife("firm"), eeqs.Bootstrap(9)):
        assert (eeqs.estimate(OLS, exact, cov=cov).bse < 1e-12).all()


def test_failed_refits_are_named(frame):
    """Only one firm has both outcomes where z is one, so its refit separates."""
    data = frame.assign(z=(frame["firm"].isin(["firm 0", "firm 1"])).astype(float))
    data.loc[data["firm"] == "firm 1", "binary"] = 1.0
    eeqs.estimate(LOGIT, data)
    message = r'1 of 11 leave-one-out refits failed \(1 degenerate\), first without cluster firm 0 of "firm"'
    with pytest.raises(eeqs.SolverError, match=message):
        eeqs.estimate(LOGIT, data, cov=eeqs.Jackknife("firm"))
    effect = frame.assign(z=(frame["firm"] == "firm 3").astype(float))
    with pytest.raises(eeqs.SolverError, match=r'\(1 singular\), first without cluster firm 3 of "firm"'):
        eeqs.estimate(OLS, effect, cov=eeqs.Jackknife("firm"))
    x = np.linspace(-1, 1, 40)
    step = {"binary": (x > 0) ^ (np.arange(40) == 17), "x": x}  # one row in the way of separation
    with pytest.raises(eeqs.SolverError, match=r"1 of 40 .* failed \(1 degenerate\), first without row 17"):
        eeqs.estimate(eeqs.moments.logit("binary", ["x"]), step, cov=eeqs.Jackknife())


def test_jackknife_in_chunks(frame, monkeypatch):
    expected = _covariance(LOGIT, frame, eeqs.Jackknife("firm"))
    monkeypatch.setattr(refit, "_CHUNK_NUMBERS", 1500)
    np.testing.assert_allclose(_covariance(LOGIT, frame, eeqs.Jackknife("firm")), expected, rtol=1e-9)


KINDS = [
    eeqs.Cluster("g", "CR2"),
    eeqs.Cluster("g", "CR3"),
    eeqs.TwoWay("g", "h", intersection=False),
    eeqs.Jackknife("g"),
    eeqs.FayGraubard("g"),
]


@given(seed=st.integers(0, 10**6), kind=st.sampled_from(KINDS))
def test_laws(seed, kind):
    """Positive, blind to the order of rows and to the names of clusters, and free of units."""
    rng = np.random.default_rng(seed)
    n = 60
    data = pd.DataFrame({"x": rng.normal(size=n), "z": rng.normal(size=n), "g": rng.permutation(n) % 12})
    data = data.assign(binary=(rng.random(n) < 1 / (1 + np.exp(-data["x"]))).astype(float), h=rng.permutation(n) % 9)
    fit = eeqs.estimate(LOGIT, data, cov=kind)
    assert np.linalg.eigvalsh(fit.meat.numpy()).min() > 0
    shuffled = data.sample(frac=1, random_state=seed).assign(g=lambda f: 100 - f["g"], x=lambda f: 1e7 * f["x"])
    np.testing.assert_allclose(eeqs.estimate(LOGIT, shuffled, cov=kind).tvalues, fit.tvalues, rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: eeqs.TwoWay("a", "b", "CR2"), 'unknown two-way covariance "CR2"; use CR0, CR1 or CR1S'),
        (lambda: eeqs.Jackknife("a", "median"), 'centre is "median"; use "estimate"'),
        (lambda: eeqs.FayGraubard("a", 1.0), "bound is 1.0; pass a number of at least 0 and below 1"),
    ],
)
def test_settings_are_checked(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("cov", [eeqs.TwoWay("firm", "one"), eeqs.Jackknife("one"), eeqs.FayGraubard("one")])
def test_one_cluster_is_refused(frame, cov):
    with pytest.raises(eeqs.DataError, match='cluster column "one": every observation has the same label'):
        eeqs.estimate(OLS, frame.assign(one=1), cov=cov)


def test_jackknife_needs_rows_in_memory_and_more_than_one(frame):
    with pytest.raises(eeqs.DataError, match=r"CV3\(rows\) needs all rows at once"):
        eeqs.estimate(OLS, lambda: iter([frame]), cov=eeqs.Jackknife())
    with pytest.raises(eeqs.DataError, match="there is only one"):
        eeqs.estimate(eeqs.moments.mean("y"), {"y": [1.0]}, cov=eeqs.Jackknife())


def test_refits_need_a_root(frame):
    """At a restricted estimate the refits would run back to the unrestricted one."""
    theta = eeqs.estimate(OLS, frame).solution.theta
    closed = 10 / 11 * eeqs.meat(OLS, theta, frame, eeqs.Cluster("firm", "CR3"))
    np.testing.assert_allclose(eeqs.meat(OLS, theta, frame, eeqs.Jackknife("firm")), closed, rtol=1e-9)
    for cov in (eeqs.Jackknife("firm"), eeqs.Bootstrap(9)):
        with pytest.raises(eeqs.DataError, match=r"the mean of psi is .* standard errors from zero"):
            eeqs.meat(OLS, theta + torch.tensor([0.0, 0.1, 0.0]), frame, cov)
