"""Fay & Graubard's sandwich and its degrees of freedom against the matrices of their paper."""

import numpy as np
import pytest

import eeqs

OLS = eeqs.moments.least_squares("y", ["x", "z"])
LOGIT = eeqs.moments.logit("binary", ["x", "z"])


def _design(frame):
    return np.column_stack([np.ones(len(frame)), frame["x"], frame["z"]])


def _covariance(psi, frame, cov):
    return eeqs.estimate(psi, frame, cov=cov).cov_params().to_numpy()


def _fay_graubard(frame, bound=0.75):
    """Covariance and degrees of freedom of the logit by the matrices of the paper, one block a cluster."""
    x, y = _design(frame), frame["binary"].to_numpy()
    beta = eeqs.estimate(LOGIT, frame).params.to_numpy()
    mean = 1 / (1 + np.exp(-x @ beta))
    firms = frame["firm"].unique()
    rows = [(frame["firm"] == firm).to_numpy() for firm in firms]
    scores = np.array([x[r].T @ (y - mean)[r] for r in rows])
    omegas = np.array([x[r].T @ (x[r] * (mean * (1 - mean))[r, None]) for r in rows])
    model = np.linalg.inv(omegas.sum(0))
    correct = np.array([np.diag(1 / np.sqrt(1 - np.minimum(bound, np.diag(o @ model)))) for o in omegas])
    adjusted = np.einsum("gij,gj->gi", correct, scores)
    covariance = model @ adjusted.T @ adjusted @ model
    groups, p = scores.shape
    ones = np.tile(np.eye(p), (1, groups))
    lift = np.eye(groups * p) - omegas.reshape(-1, p) @ model @ ones
    df = []
    for j in range(p):
        c = np.eye(p)[j]
        m = np.zeros((groups * p, groups * p))
        psi = np.zeros_like(m)
        share = np.array([c @ (np.linalg.inv(omegas.sum(0) - o) - model) @ c for o in omegas])
        for g in range(groups):
            block = slice(g * p, (g + 1) * p)
            part = correct[g] @ model @ c
            m[block, block] = np.outer(part, part)
            psi[block, block] = share[g] / share.sum() * adjusted.T @ adjusted
        product = psi @ lift.T @ m @ lift
        df.append(np.trace(product) ** 2 / np.trace(product @ product))
    return covariance, np.array(df)


@pytest.mark.parametrize("bound", [0.75, 0.1])
def test_fay_graubard_is_the_matrices_of_the_paper(frame, bound):
    covariance, df = _fay_graubard(frame, bound)
    kind = eeqs.FayGraubard("firm", bound)
    fit = eeqs.estimate(LOGIT, frame, cov=kind)
    np.testing.assert_allclose(fit.cov_params(), covariance, rtol=1e-8, atol=1e-9 * covariance.max())
    np.testing.assert_allclose(kind.degrees_of_freedom(fit), df, rtol=1e-8)
    assert (df < 10).all()


def test_fay_graubard_without_a_bound_is_cr0_and_of_a_mean_is_exact(frame):
    zero, plain = eeqs.FayGraubard("firm", 0.0), eeqs.Cluster("firm", "CR0")
    np.testing.assert_allclose(_covariance(OLS, frame, zero), _covariance(OLS, frame, plain), rtol=1e-12)
    fit = eeqs.estimate(eeqs.moments.mean("y"), frame, cov=eeqs.FayGraubard())
    assert fit.covariance.item() == pytest.approx(frame["y"].var() / len(frame), rel=1e-12)
    assert eeqs.FayGraubard().degrees_of_freedom(fit).item() == pytest.approx(len(frame) - 1, rel=1e-10)


@pytest.mark.parametrize("by", [None, "firm"])
def test_fay_graubard_counts_frequency_weights(frame, by):
    kind, repeated = eeqs.FayGraubard(by), frame.loc[frame.index.repeat(frame["w"])]
    one = eeqs.estimate(eeqs.weight(LOGIT, "w", kind="frequency"), frame, cov=kind)
    two = eeqs.estimate(LOGIT, repeated, cov=kind)
    np.testing.assert_allclose(one.bse, two.bse, rtol=1e-9)
    np.testing.assert_allclose(kind.degrees_of_freedom(one), kind.degrees_of_freedom(two), rtol=1e-8)


def test_a_cluster_that_alone_identifies_a_parameter_has_a_covariance_and_no_degrees_of_freedom(frame):
    """The bound keeps its factor finite; what the fit would be without it, the degrees of freedom need."""
    kind = eeqs.FayGraubard("firm")
    fit = eeqs.estimate(OLS, frame.assign(z=(frame["firm"] == "firm 3").astype(float)), cov=kind)
    assert np.isfinite(fit.bse).all()
    with pytest.raises(eeqs.DataError, match='cluster firm 3 of "firm" has leverage 1'):
        kind.degrees_of_freedom(fit)
