"""Generalised estimating equations against statsmodels, and against loops over clusters."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import torch

import eeqs
from eeqs.engine.errors import Status
from eeqs.engine.moments import correlations, families, gee

FAMILIES = {
    "normal": (families.gaussian, sm.families.Gaussian()),
    "binary": (families.binomial, sm.families.Binomial()),
    "count": (families.poisson, sm.families.Poisson()),
}
CR0 = eeqs.Cluster("id", "CR0")
X = ["x", "z"]


@pytest.fixture(scope="module")
def data():
    """80 clusters of 1 to 6 rows in random order, with gaps in time."""
    rng = np.random.default_rng(5)
    sizes = rng.integers(1, 7, 80)
    group = np.repeat(np.arange(80), sizes)
    n = len(group)
    x, z, u = rng.normal(size=n), rng.normal(size=80)[group], 0.8 * rng.normal(size=80)[group]
    index = 0.2 + 0.4 * x - 0.3 * z
    columns = {
        "normal": index + u + rng.normal(size=n) * (1 + 0.3 * np.abs(x)),
        "binary": (rng.uniform(size=n) < 1 / (1 + np.exp(-index - u))).astype(float),
        "count": rng.poisson(np.exp(index / 2 + u / 2)).astype(float),
        "x": x,
        "z": z,
        "id": 7 * group - 3,
        "week": np.concatenate([np.sort(rng.choice(9, size, replace=False)) for size in sizes]),
        "occasion": np.concatenate([np.arange(size) for size in sizes]),
        "shift": rng.normal(size=n) / 3,
        "w": rng.uniform(0.5, 2, 80)[group],
    }
    return pd.DataFrame(columns).sample(frac=1, random_state=1).reset_index(drop=True)


def peer(data, response, structure, **options):
    """GEE of statsmodels, which wants clusters in rows that are sorted by time."""
    ordered = data.sort_values(["id", "occasion"])
    return sm.GEE(
        ordered[response],
        sm.add_constant(ordered[X]),
        ordered["id"],
        time=ordered["occasion"].to_numpy(),
        family=FAMILIES[response][1],
        cov_struct=structure,
        **options,
    )


@pytest.mark.parametrize("response", FAMILIES)
def test_independence_against_statsmodels(data, response):
    psi = gee(response, X, "id", family=FAMILIES[response][0], correlation=correlations.Independence())
    fit = eeqs.estimate(psi, data, cov=CR0)
    other = peer(data, response, sm.cov_struct.Independence()).fit(ctol=1e-13, maxiter=300)
    np.testing.assert_allclose(fit.params, other.params, rtol=1e-9)
    np.testing.assert_allclose(fit.bse, other.bse, rtol=1e-9)


@pytest.mark.parametrize("response", FAMILIES)
def test_exchangeable_against_statsmodels(data, response):
    """The same moment estimators, with n - p and pairs - p."""
    fit = eeqs.estimate(gee(response, X, "id", family=FAMILIES[response][0]), data, cov=CR0)
    structure = sm.cov_struct.Exchangeable()
    other = peer(data, response, structure).fit(ctol=1e-13, maxiter=300)
    np.testing.assert_allclose(fit.params.iloc[:3], other.params, rtol=1e-8)
    np.testing.assert_allclose(fit.bse.iloc[:3], other.bse, rtol=1e-8)
    assert fit.params["correlation"] == pytest.approx(structure.dep_params, rel=1e-8)
    scale = (other.resid_pearson**2).sum() / (len(data) - 3)
    assert fit.params["dispersion"] == pytest.approx(scale, rel=1e-8)


@pytest.mark.parametrize("response", FAMILIES)
def test_autoregression_against_statsmodels(data, response):
    """Its correlation averages over clusters instead of pairs; given ours, coefficients and errors are the same."""
    psi = gee(response, X, "id", family=FAMILIES[response][0], correlation=correlations.AR1("occasion"))
    fit = eeqs.estimate(psi, data, cov=CR0)
    structure = sm.cov_struct.Autoregressive(grid=True)
    model = peer(data, response, structure, update_dep=False)
    structure.dep_params = fit.params["correlation"]
    other = model.fit(ctol=1e-13, maxiter=300)
    np.testing.assert_allclose(fit.params.iloc[:3], other.params, rtol=1e-8)
    np.testing.assert_allclose(fit.bse.iloc[:3], other.bse, rtol=1e-8)
    ordered = data.assign(r=np.nan)
    ordered.loc[data.sort_values(["id", "occasion"]).index, "r"] = np.asarray(other.resid_pearson)
    ordered = ordered.sort_values(["id", "occasion"])
    products = ordered["r"] * ordered.groupby("id")["r"].shift()
    dispersion = (ordered["r"] ** 2).sum() / (len(data) - 3)
    assert fit.params["correlation"] == pytest.approx(
        products.sum() / dispersion / (products.notna().sum() - 3), rel=1e-8
    )


def by_loops(data, family, correlation, theta):
    """Sums of psi (G, p + 2) over clusters, one after the other, with dense matrices."""
    beta, dispersion, alpha = theta[:3], theta[3], theta[4]
    n, sums, number = len(data), [], 0
    for _, cluster in data.groupby("id", sort=False):
        ordered = cluster.sort_values("week")
        design = np.column_stack([np.ones(len(ordered)), ordered[X]])
        index = torch.from_numpy(design @ beta)
        slope, variance = (curve(index).numpy() for curve in (family.slope, family.variance))
        error = ordered["y"].to_numpy() - family.mean(index).numpy()
        gaps = np.abs(np.subtract.outer(*[ordered["week"].to_numpy()] * 2))
        if isinstance(correlation, correlations.AR1):
            matrix, pairs = alpha**gaps, [(i, i + 1) for i in range(len(ordered) - 1)]
        else:
            matrix = np.where(gaps == 0, 1.0, alpha)
            pairs = [(i, j) for i in range(len(ordered)) for j in range(i)]
        scale = np.sqrt(np.outer(variance, variance))
        score = (slope[:, None] * design).T @ np.linalg.solve(matrix * scale, error)
        r = error / np.sqrt(variance)
        products, expected = (sum(values[i, j] for i, j in pairs) for values in (np.outer(r, r), matrix))
        sums.append([*score, (r**2).sum(), products, len(r), expected])
        number += len(pairs)
    table = np.array(sums)
    spread = table[:, 3] - (n - 3) / n * dispersion * table[:, 5]
    excess = table[:, 4] - (number - 3) / number * dispersion * table[:, 6]
    return np.column_stack([table[:, :3], spread, excess])


@pytest.mark.parametrize("correlation", [correlations.Exchangeable(), correlations.AR1("week")], ids=str)
@pytest.mark.parametrize("response", FAMILIES)
@pytest.mark.parametrize("alpha", [0.4, -0.15])
def test_psi_against_dense_matrices(data, response, correlation, alpha):
    """Away from the root, with gaps in time, rows in any order and a negative correlation."""
    family = FAMILIES[response][0]
    theta = np.array([0.1, 0.3, -0.2, 1.3, alpha])
    psi = gee(response, X, "id", family=family, correlation=correlation)
    leaves = {name: torch.tensor(data[name].to_numpy(dtype=float)) for name in psi.columns}
    rows = psi(torch.from_numpy(theta), leaves).numpy()
    ours = pd.DataFrame(rows).groupby(data["id"], sort=False).sum()
    np.testing.assert_allclose(ours, by_loops(data.assign(y=data[response]), family, correlation, theta), atol=1e-10)


@pytest.mark.parametrize("correlation", [correlations.Exchangeable(), correlations.AR1()], ids=str)
@pytest.mark.parametrize("response", FAMILIES)
def test_full_bread_is_the_derivative(data, response, correlation):
    options = {"family": FAMILIES[response][0], "correlation": correlation}
    psi = gee(response, X, "id", **options, expected_bread=False)
    fit = eeqs.estimate(psi, data, cov=CR0)
    assert eeqs.check_jacobian(psi, fit.solution.theta, data).passed
    usual = eeqs.estimate(gee(response, X, "id", **options), data, cov=CR0)
    np.testing.assert_allclose(fit.params, usual.params, rtol=1e-7)
    difference = np.abs(fit.bse / usual.bse - 1).iloc[:3].max()
    assert 1e-6 < difference < 0.1  # both are consistent


def test_order_of_rows_does_not_matter(data):
    """Influence stays with its row; without times, rows of a cluster are in the order given."""
    psi = gee("normal", X, "id", correlation=correlations.AR1("week"))
    base = eeqs.estimate(psi, data, cov=CR0)
    shuffled = data.sample(frac=1, random_state=9)
    other = eeqs.estimate(psi, shuffled, cov=CR0)
    np.testing.assert_allclose(other.bse, base.bse, rtol=1e-9)
    pd.testing.assert_frame_equal(other.influence().sort_index(), base.influence(), rtol=1e-7, atol=1e-9)
    ordered = data.sort_values("occasion")
    implicit = eeqs.estimate(gee("normal", X, "id", correlation=correlations.AR1()), ordered, cov=CR0)
    explicit = eeqs.estimate(gee("normal", X, "id", correlation=correlations.AR1("occasion")), data, cov=CR0)
    np.testing.assert_allclose(implicit.bse, explicit.bse, rtol=1e-9)


@pytest.mark.parametrize("correlation", [correlations.Exchangeable(), correlations.AR1()], ids=str)
def test_labels_of_any_type(data, correlation):
    base = eeqs.estimate(gee("count", X, "id", family=families.poisson, correlation=correlation), data, cov=CR0)
    text = data.assign(id=[f"clinic {k}" for k in data["id"]])
    for labelled in (text, {name: text[name].to_numpy() for name in text}):
        psi = gee("count", X, "id", family=families.poisson, correlation=correlation)
        np.testing.assert_allclose(eeqs.estimate(psi, labelled, cov=CR0).bse, base.bse, rtol=1e-9)


def test_offset_and_weights(data):
    """An offset against statsmodels; weights of clusters against those clusters repeated."""
    psi = gee("count", X, "id", family=families.poisson, offset="shift")
    fit = eeqs.estimate(psi, data, cov=CR0)
    ordered = data.sort_values("id")
    other = sm.GEE(
        ordered["count"],
        sm.add_constant(ordered[X]),
        ordered["id"],
        offset=ordered["shift"],
        family=sm.families.Poisson(),
        cov_struct=sm.cov_struct.Exchangeable(),
    ).fit(ctol=1e-13, maxiter=300)
    np.testing.assert_allclose(fit.bse.iloc[:3], other.bse, rtol=1e-8)
    # One weight for all rows changes nothing; doubling some clusters solves what their weighted rows sum to.
    same = eeqs.estimate(gee("count", X, "id", family=families.poisson, weights="one"), data.assign(one=3.0), cov=CR0)
    plain = eeqs.estimate(gee("count", X, "id", family=families.poisson), data, cov=CR0)
    np.testing.assert_allclose(same.bse, plain.bse, rtol=1e-9)
    weighted = eeqs.estimate(gee("count", X, "id", family=families.poisson, weights="w"), data, cov=CR0)
    sums = by_loops(
        data.assign(y=data["count"]), families.poisson, correlations.Exchangeable(), weighted.params.to_numpy()
    )
    weights = data.groupby("id", sort=False)["w"].first().to_numpy()
    np.testing.assert_allclose(weights @ sums, 0, atol=1e-6)


def test_one_row_a_cluster_besides_others(data):
    alone = data[~data["id"].duplicated()].assign(id=lambda rows: rows["id"] + 10_000)
    joined = pd.concat([data, alone], ignore_index=True)
    fit = eeqs.estimate(gee("normal", X, "id"), joined, cov=CR0)
    structure = sm.cov_struct.Exchangeable()
    peer(joined, "normal", structure).fit(ctol=1e-13, maxiter=300)
    assert fit.params["correlation"] == pytest.approx(structure.dep_params, rel=1e-8)


@pytest.mark.parametrize("correlation", [correlations.Exchangeable(), correlations.AR1("week")], ids=str)
def test_leave_one_cluster_out(data, correlation):
    """Prepared data hold for any subset of rows: the jackknife is that of refits on the data without each cluster."""
    small = data[data["id"] < 7 * 12]
    psi = gee("normal", ["x"], "id", correlation=correlation)
    fit = eeqs.estimate(psi, small, cov=eeqs.Jackknife("id"))
    labels = small["id"].unique()
    refits = np.stack([eeqs.estimate(psi, small[small["id"] != label], cov=CR0).params for label in labels])
    change = refits - fit.params.to_numpy()
    expected = (len(labels) - 1) / len(labels) * change.T @ change
    np.testing.assert_allclose(fit.cov_params(), expected, rtol=1e-6)


def test_replicates(data):
    """Two data sets solved at once, from the starts of psi and to the roots of each."""
    columns = ["normal", *X, "id"]
    halves = [data.sample(200, random_state=k)[columns].astype(float) for k in (1, 2)]
    leaves = {name: torch.stack([torch.tensor(half[name].to_numpy()) for half in halves]) for name in columns}
    psi = gee("normal", X, "id")
    start = psi.start(psi.prepare(leaves))
    assert start.shape == (2, 5)
    together = eeqs.solve(psi, leaves, start)
    assert together.status == (Status.CONVERGED,) * 2
    for theta, half in zip(together.theta, halves, strict=True):
        np.testing.assert_allclose(theta, eeqs.solve(psi, half).theta, rtol=1e-8)


def test_formula(data):
    psi = gee.from_formula("count ~ x + z", data, "id", family=families.poisson)
    plain = eeqs.estimate(gee("count", X, "id", family=families.poisson), data, cov=CR0)
    np.testing.assert_allclose(eeqs.estimate(psi, data, cov=CR0).bse, plain.bse, rtol=1e-10)


def test_units(data):
    base = eeqs.estimate(gee("binary", X, "id", family=families.binomial), data, cov=CR0)
    scaled = eeqs.estimate(
        gee("binary", X, "id", family=families.binomial), data.assign(x=1e6 * data["x"], z=1e-6 * data["z"]), cov=CR0
    )
    np.testing.assert_allclose(scaled.bse * [1, 1e6, 1e-6, 1, 1], base.bse, rtol=1e-8)


def test_batches(data):
    """Independent rows come in batches; a correlation needs its clusters whole."""
    batches = [data.iloc[:100], data.iloc[100:]]
    psi = gee("count", X, "id", family=families.poisson, correlation=correlations.Independence())
    fit = eeqs.estimate(psi, lambda: iter(batches), cov=CR0)
    np.testing.assert_allclose(fit.bse, eeqs.estimate(psi, data, cov=CR0).bse, rtol=1e-9)
    with pytest.raises(eeqs.PsiError, match="all rows at once"):
        eeqs.estimate(gee("count", X, "id", family=families.poisson), lambda: iter(batches), cov=CR0)


def test_bad_data(data):
    with pytest.raises(eeqs.DataError, match='"normal" has values that are not between 0 and 1'):
        eeqs.estimate(gee("normal", X, "id", family=families.binomial), data, cov=CR0)
    with pytest.raises(eeqs.DataError, match='"normal" has values that are not non-negative'):
        eeqs.estimate(gee("normal", X, "id", family=families.poisson), data, cov=CR0)
    with pytest.raises(eeqs.DataError, match='0 pairs within the clusters of "id"'):
        eeqs.estimate(gee("normal", X, "id"), data.assign(id=np.arange(len(data))))
    with pytest.raises(eeqs.DataError, match='unknown column "idd"; did you mean "id"'):
        eeqs.estimate(gee("normal", X, "idd"), data)
    for week in (data["week"] * 0, data["week"] + 0.5 * (data["occasion"] == 1)):
        psi = gee("normal", X, "id", correlation=correlations.AR1("week"))
        with pytest.raises(eeqs.DataError, match='times "week" must be whole numbers that differ'):
            eeqs.estimate(psi, data.assign(week=week), cov=CR0)


def test_a_family_of_ones_own(data):
    """Log link with a variance proportional to the squared mean, against statsmodels."""
    gamma = families.Family(
        torch.exp, torch.exp, lambda index: torch.exp(2 * index), lambda y: y > 0, "positive", families.poisson.start
    )
    positive = data.assign(y=np.exp(data["normal"] / 2))
    fit = eeqs.estimate(gee("y", X, "id", family=gamma), positive, cov=CR0)
    ordered = positive.sort_values("id")
    other = sm.GEE(
        ordered["y"],
        sm.add_constant(ordered[X]),
        ordered["id"],
        family=sm.families.Gamma(sm.families.links.Log()),
        cov_struct=sm.cov_struct.Exchangeable(),
    ).fit(ctol=1e-13, maxiter=300)
    np.testing.assert_allclose(fit.bse.iloc[:3], other.bse, rtol=1e-7)
