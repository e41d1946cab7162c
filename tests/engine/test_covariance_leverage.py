"""HC2, HC3, CR2 and CR3 against statsmodels, R's formulas, matrix functions of scipy and published digits."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import statsmodels.stats.tests
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import linalg

import eeqs
from eeqs.engine import evaluate
from eeqs.engine.covariance import leverage

OLS = eeqs.moments.least_squares("y", ["x", "z"])
LOGIT = eeqs.moments.logit("binary", ["x", "z"])


def _design(frame):
    return np.column_stack([np.ones(len(frame)), frame["x"], frame["z"]])


def _covariance(psi, frame, cov, theta0=None):
    return eeqs.estimate(psi, frame, theta0, cov).cov_params().to_numpy()


def _plain(theta, data):
    """Least squares without its structure, so that every Jacobian is by automatic differentiation."""
    design = torch.stack([torch.ones_like(data["x"]), data["x"], data["z"]], dim=1)
    return (data["y"] - design @ theta)[:, None] * design


@pytest.mark.parametrize("kind", ["HC2", "HC3"])
def test_least_squares_is_statsmodels(frame, kind):
    expected = sm.OLS(frame["y"], _design(frame)).fit(cov_type=kind).cov_params()
    np.testing.assert_allclose(_covariance(OLS, frame, kind), expected, rtol=1e-10)
    np.testing.assert_allclose(_covariance(_plain, frame[["y", "x", "z"]], kind, np.zeros(3)), expected, rtol=1e-10)


@pytest.mark.parametrize(("kind", "power"), [("HC2", 0.5), ("HC3", 1.0)])
def test_logit_is_the_formula_of_r_sandwich(frame, kind, power):
    """Scores over (1 - h)^power with the hat values of the weighted least squares at the root, as vcovHC of a glm."""
    fit = sm.Logit(frame["binary"], _design(frame)).fit(disp=0, tol=1e-14)
    x, mean = _design(frame), fit.predict()
    bread = np.linalg.inv(x.T @ (x * (mean * (1 - mean))[:, None]))
    hat = mean * (1 - mean) * np.einsum("ij,jk,ik->i", x, bread, x)
    scores = x * ((frame["binary"] - mean) / (1 - hat) ** power).to_numpy()[:, None]
    expected = bread @ scores.T @ scores @ bread
    np.testing.assert_allclose(_covariance(LOGIT, frame, kind), expected, rtol=1e-9, atol=1e-9 * expected.max())


def _location_scale():
    """Normal regression with log-linear scale: two indices that both residuals read."""

    def residuals(indices, data):
        error = (data["y"] - indices[0]) * torch.exp(-indices[1])
        return error * torch.exp(-indices[1]), error.square() - 1

    def designs(data):
        one = torch.ones_like(data["x"])
        return torch.stack([one, data["x"]], 1), torch.stack([one, data["x"].abs()], 1)

    return eeqs.from_linear_indices(residuals, designs, columns=("y", "x"))


@pytest.mark.parametrize("psi", [_location_scale(), eeqs.moments.variance("y")], ids=["two indices", "defective"])
@pytest.mark.parametrize(("kind", "power"), [("HC2", 0.5), ("HC3", 1.0)])
def test_matrix_leverage_is_the_matrix_function(frame, psi, kind, power):
    """With (mean, variance) the leverage matrix is triangular with equal eigenvalues: it has no eigenbasis."""
    fit = eeqs.estimate(psi, frame, np.array([0.3, 0.6, 0.0, 0.3]) if psi.linear else None, kind)
    theta, n = fit.solution.theta, len(frame)
    problem = fit.problem
    jacobians = torch.func.jacfwd(lambda b: psi.psi(b, problem.data))(theta).numpy()
    values = psi.psi(theta, problem.data).numpy()
    inverse = np.linalg.inv(jacobians.mean(0))
    rows = []
    for value, jacobian in zip(values, jacobians, strict=True):
        remainder = np.eye(len(theta)) - jacobian @ inverse / n
        rows.append(np.linalg.solve(remainder if power == 1 else linalg.sqrtm(remainder).real, value))
    expected = np.array(rows).T @ np.array(rows) / n
    np.testing.assert_allclose(fit.meat, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())


def test_structure_and_automatic_differentiation_agree(frame):
    psi = _location_scale()
    start = np.array([0.3, 0.6, 0.0, 0.3])
    plain = eeqs.estimate(psi.psi, frame[["y", "x"]], start, "HC2")
    np.testing.assert_allclose(plain.cov_params(), _covariance(psi, frame, "HC2", start), rtol=1e-9)
    by_cluster = eeqs.estimate(psi.psi, frame[["y", "x", "firm"]], start, eeqs.Cluster("firm", "CR2"))
    expected = _covariance(psi, frame, eeqs.Cluster("firm", "CR2"), start)
    np.testing.assert_allclose(by_cluster.cov_params(), expected, rtol=1e-9)


@pytest.mark.parametrize("cov", ["HC2", "CR2"])
def test_exactly_unbiased_for_homoskedastic_least_squares(frame, cov):
    """The covariance is quadratic in y: its sum over unit vectors y is its expectation for unit-variance errors."""
    data = frame.iloc[:40]
    kind = eeqs.Cluster("firm", "CR2") if cov == "CR2" else cov
    total = np.zeros((3, 3))
    for row in range(len(data)):
        total += _covariance(OLS, data.assign(y=np.eye(len(data))[row]), kind)
    expected = np.linalg.inv(_design(data).T @ _design(data))
    np.testing.assert_allclose(total, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())


def test_cr2_is_the_residual_formula_of_bell_and_mccaffrey(frame):
    x = _design(frame)
    inverse = np.linalg.inv(x.T @ x)
    residual = frame["y"].to_numpy() - x @ (inverse @ x.T @ frame["y"].to_numpy())
    total = np.zeros((3, 3))
    for firm in frame["firm"].unique():
        rows = (frame["firm"] == firm).to_numpy()
        values, vectors = np.linalg.eigh(np.eye(rows.sum()) - x[rows] @ inverse @ x[rows].T)
        score = x[rows].T @ (vectors / np.sqrt(values)) @ vectors.T @ residual[rows]
        total += np.outer(score, score)
    expected = inverse @ total @ inverse
    np.testing.assert_allclose(_covariance(OLS, frame, eeqs.Cluster("firm", "CR2")), expected, rtol=1e-10)


@pytest.fixture(scope="module")
def petersen():
    path = Path(statsmodels.stats.tests.__file__).parent / "test_data.txt"
    return pd.read_csv(path, sep=r"\s+", header=None, names=["firm", "year", "x", "y"])


def test_petersen_bell_mccaffrey(petersen):
    """BMlmSE in the tests of R's sandwich; its data have more digits than the seven decimals of the copy here, which
    moves entries by 1e-8 of the variances."""
    covariance = _covariance(eeqs.moments.least_squares("y", ["x"]), petersen, eeqs.Cluster("firm", "CR2"))
    expected = [0.0044944872570532, -6.59291186924326e-05, 0.00256823604178553]
    np.testing.assert_allclose(covariance[[0, 0, 1], [0, 1, 1]], expected, rtol=1e-8, atol=3e-11)


@given(seed=st.integers(0, 10**6), kind=st.sampled_from(["HC2", "HC3", "CR2", "CR3"]))
def test_frequency_weights_are_duplication(seed, kind):
    rng = np.random.default_rng(seed)
    n = 30
    data = pd.DataFrame({"x": rng.normal(size=n), "z": rng.normal(size=n), "w": rng.integers(0, 4, n)})
    data = data.assign(y=rng.normal(size=n), binary=rng.integers(0, 2, n), g=rng.integers(0, 6, n))
    data.loc[0, ["x", "w"]] = [1e6, 0]  # a row that stands for nobody may have any leverage
    cov = eeqs.Cluster("g", kind) if kind.startswith("CR") else kind
    weighted = _covariance(eeqs.weight(OLS, "w", kind="frequency"), data, cov)
    repeated = _covariance(OLS, data.loc[data.index.repeat(data["w"])], cov)
    np.testing.assert_allclose(weighted, repeated, rtol=1e-8, atol=1e-10 * np.abs(repeated).max())


@given(seed=st.integers(0, 10**6), kind=st.sampled_from(["HC0", "HC1", "HC2", "HC3"]))
def test_order_and_conservatism(seed, kind):
    """Permuting rows changes nothing; HC0 <= HC2 <= HC3 in least squares; clusters of one row are rows."""
    rng = np.random.default_rng(seed)
    n = 25
    data = pd.DataFrame({"y": rng.normal(size=n), "x": rng.normal(size=n), "z": rng.exponential(size=n)})
    data["row"] = np.arange(n)
    covariance = _covariance(OLS, data, kind)
    np.testing.assert_allclose(_covariance(OLS, data.sample(frac=1, random_state=seed), kind), covariance, rtol=1e-9)
    assert np.linalg.eigvalsh(covariance).min() > 0
    if kind != "HC1":
        same = _covariance(OLS, data, eeqs.Cluster("row", kind.replace("H", "").replace("C", "CR")))
        np.testing.assert_allclose(same, covariance, rtol=1e-9)
    variances = [np.diag(_covariance(OLS, data, k)) for k in ("HC0", "HC2", "HC3")]
    assert (np.diff(variances, axis=0) >= 0).all()


@pytest.mark.parametrize("kind", ["HC2", "HC3", "CR2", "CR3"])
@pytest.mark.parametrize("linear", [True, False])
def test_units_do_not_matter(frame, kind, linear):
    cov = eeqs.Cluster("firm", kind) if kind.startswith("CR") else kind
    scaled = frame.assign(x=1e6 * frame["x"], z=1e-6 * frame["z"], y=1e3 * frame["y"])
    columns = ["y", "x", "z", *(["firm"] if kind.startswith("CR") else [])]
    psi, start = (OLS, None) if linear else (_plain, np.zeros(3))
    one, other = (eeqs.estimate(psi, data[columns], start, cov) for data in (frame, scaled))
    np.testing.assert_allclose(other.tvalues, one.tvalues, rtol=1e-8)


@pytest.mark.parametrize("kind", ["HC2", "HC3"])
def test_a_row_that_alone_identifies_a_parameter_is_named(frame, kind):
    data = frame.assign(z=(np.arange(len(frame)) == 17).astype(float))
    with pytest.raises(eeqs.DataError, match="row 17 has leverage 1: a parameter is identified by it alone"):
        eeqs.estimate(OLS, data, cov=kind)
    assert np.isfinite(eeqs.estimate(OLS, data, cov="HC1").bse).all()
    with pytest.raises(eeqs.DataError, match="row 17 has leverage 1"):
        eeqs.estimate(_plain, data[["y", "x", "z"]], np.zeros(3), kind)


@pytest.mark.parametrize("labels", ["column", "array"])
def test_a_cluster_with_its_own_effect_is_named(frame, labels):
    data = frame.assign(z=(frame["firm"] == "firm 3").astype(float))
    by, where = ("firm", ' of "firm"') if labels == "column" else (data["firm"].to_numpy(), "")
    with pytest.raises(eeqs.DataError, match=f"cluster firm 3{where} has leverage 1"):
        eeqs.estimate(OLS, data, cov=eeqs.Cluster(by, "CR2"))


@pytest.mark.parametrize("cov", ["HC3", eeqs.Cluster("firm", "CR2"), eeqs.FayGraubard("firm")])
def test_step_functions_have_no_leverage(frame, cov):
    with pytest.raises(eeqs.PsiError, match="step function; use HC0, HC1"):
        eeqs.estimate(eeqs.moments.quantile("y"), frame, cov=cov)


def test_a_jacobian_that_is_not_the_derivative_is_refused(frame):
    psi = eeqs.EstimatingFunction(
        lambda theta, data: data["y"][:, None] - theta,
        mean_jacobian=lambda theta, data: -1.01 * torch.eye(len(theta)).to(data["y"]),
    )
    with pytest.raises(eeqs.PsiError, match="not the mean of its derivatives"):
        eeqs.estimate(psi, frame[["y"]], [0.0], "HC3")


@pytest.mark.parametrize("kind", ["HC2", "HC3", "CR2", "CR3"])
def test_blocks_and_streams_are_all_rows_at_once(frame, kind, monkeypatch):
    cov = eeqs.Cluster("firm", kind) if kind.startswith("CR") else kind
    numbers = frame.assign(firm=frame["firm"].str[5:].astype(int))[["binary", "x", "z", "firm"]]
    expected = _covariance(LOGIT, numbers, cov)
    monkeypatch.setattr(evaluate, "_BLOCK_NUMBERS", 120)
    monkeypatch.setattr(evaluate, "_FEWEST_ROWS", 8)
    monkeypatch.setattr(leverage, "_JACOBIAN_NUMBERS", 50)
    np.testing.assert_allclose(_covariance(LOGIT, numbers, cov), expected, rtol=1e-10)
    streamed = _covariance(LOGIT, lambda: (numbers.iloc[k : k + 40] for k in range(0, 150, 40)), cov)
    np.testing.assert_allclose(streamed, expected, rtol=1e-10)


def test_replicates_are_the_loop(frame):
    columns = {name: torch.tensor(frame[name].to_numpy()) for name in ("y", "x", "z")}
    batch = {name: torch.stack([leaf, leaf.flip(0), leaf**3]) for name, leaf in columns.items()}
    theta = eeqs.solve(OLS, batch, torch.zeros(3, 3, dtype=torch.float64)).theta
    meats = eeqs.meat(OLS, theta, batch, "HC3")
    for r in range(3):
        row = {name: leaf[r] for name, leaf in batch.items()}
        torch.testing.assert_close(meats[r], eeqs.meat(OLS, theta[r], row, "HC3"), rtol=1e-12, atol=0)
    with pytest.raises(eeqs.DataError, match="CR2 is for one data set"):
        eeqs.meat(OLS, theta, batch, eeqs.Cluster(np.arange(150) % 5, "CR2"))


def test_stream_names_a_cluster_by_its_number(frame):
    numbers = frame.assign(firm=frame["firm"].str[5:].astype(int))[["y", "x", "firm"]]
    numbers["z"] = (numbers["firm"] == numbers["firm"].iloc[0]).astype(float)
    with pytest.raises(eeqs.DataError, match='cluster number 0 of "firm" has leverage 1'):
        eeqs.estimate(OLS, lambda: iter([numbers]), cov=eeqs.Cluster("firm", "CR3"))
