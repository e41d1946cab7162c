"""Influence, leave-one-out estimates, and contrasts of fits with common rows."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import torch

import eeqs


def test_leave_one_out_of_least_squares_is_exact(frame):
    psi = eeqs.moments.least_squares("y", ["x", "z"])
    frame = frame.set_index(frame.index + 1000)
    fit = eeqs.estimate(psi, frame)
    out = fit.leave_one_out()
    for label in (1000, 1017, 1149):
        again = eeqs.estimate(psi, frame.drop(index=label))
        np.testing.assert_allclose(out.params.loc[label], again.params, rtol=1e-10)
    influence = sm.OLS(frame["y"], sm.add_constant(frame[["x", "z"]])).fit().get_influence()
    np.testing.assert_allclose(out.shift, -influence.dfbeta, rtol=1e-8, atol=1e-12)
    # statsmodels' distance has the model's covariance X'X / s^2 where ours has the sandwich.
    design = np.column_stack([np.ones(150), frame[["x", "z"]]])
    residual = frame["y"] - design @ fit.params.to_numpy()
    scaled = np.einsum("ij,jk,ik->i", out.shift, design.T @ design, out.shift) / (3 * residual @ residual / 147)
    np.testing.assert_allclose(scaled, influence.cooks_distance[0], rtol=1e-8)
    expected = np.einsum("ij,jk,ik->i", out.shift, np.linalg.inv(fit.cov_params()), out.shift) / 3
    np.testing.assert_allclose(out.distance, expected, rtol=1e-8)
    assert out.distance.index.equals(frame.index)


def test_leave_one_out_is_of_second_order_and_beats_the_jackknife(frame):
    """Against refits: errors are of order (shift)^2, and smaller than those of minus the influence over n."""
    psi = eeqs.moments.logit("binary", ["x", "z"])
    fit = eeqs.estimate(psi, frame)
    step, jackknife = fit.leave_one_out().shift.to_numpy(), -fit.influence().to_numpy() / 150
    true = np.array([eeqs.estimate(psi, frame.drop(index=i)).params - fit.params for i in range(150)])
    size = np.abs(true).max()
    # Relative to the largest shift, itself 2 % of a parameter of order one.
    assert np.abs(step - true).max() < 0.1 * size
    assert np.abs(step - true).mean() < 0.5 * np.abs(jackknife - true).mean()


def test_leave_one_out_of_a_plain_psi_and_of_frequency_weights(frame):
    def plain(theta, data):
        residual = data["count"] - torch.exp(theta[0] + theta[1] * data["x"])
        return torch.stack([residual, residual * data["x"]], dim=1)

    named = eeqs.estimate(eeqs.moments.poisson("count", ["x"]), frame).leave_one_out()
    spelled = eeqs.estimate(plain, frame[["count", "x"]], [0.0, 0.0]).leave_one_out()
    np.testing.assert_allclose(spelled.shift, named.shift, rtol=1e-6, atol=1e-10)
    kept = frame[frame["w"] > 0].reset_index(drop=True)
    weighted = eeqs.weight(eeqs.moments.poisson("count", ["x"]), "w", kind="frequency")
    out = eeqs.estimate(weighted, kept).leave_one_out().shift
    repeated = kept.loc[kept.index.repeat(kept["w"])]
    long = eeqs.estimate(eeqs.moments.poisson("count", ["x"]), repeated).leave_one_out().shift
    np.testing.assert_allclose(out, long.groupby(level=0).first(), rtol=1e-6, atol=1e-10)


def test_leave_one_out_refuses(frame):
    lonely = frame.assign(only=(np.arange(150) == 42).astype(float))
    with pytest.raises(eeqs.DataError, match="row 42 has leverage 1"):
        eeqs.estimate(eeqs.moments.least_squares("y", ["x", "only"]), lonely).leave_one_out()
    with pytest.raises(eeqs.PsiError, match="step function"):
        eeqs.estimate(eeqs.moments.quantile("y", 0.5), frame).leave_one_out()
    whole = eeqs.EstimatingFunction(
        lambda theta, data: (data["y"] - data["y"].mean() + theta[0])[:, None], columns=("y",), separable=False
    )
    with pytest.raises(eeqs.PsiError, match="changes the equations of the others"):
        eeqs.estimate(whole, frame, [0.5]).leave_one_out()


def test_influence_of_a_function(frame):
    fit = eeqs.estimate(eeqs.moments.variance("y"), frame)
    rows = fit.influence_of(lambda b: {"cv": b[1].sqrt() / b[0]})
    error = np.sqrt(np.square(rows["cv"]).sum()) / 150
    np.testing.assert_allclose(error, fit.delta(lambda b: b[1].sqrt() / b[0]).bse.iloc[0], rtol=1e-12)
    named = fit.influence_of(lambda b: b["variance[y]"].sqrt() / b["mean[y]"], named=True)
    np.testing.assert_allclose(named.iloc[:, 0], rows["cv"])


# ---- contrasts


def _means(theta, data):
    """Stacked equations of the mean of y over two overlapping parts of the rows."""
    return torch.stack([data["first"] * (data["y"] - theta[0]), data["second"] * (data["y"] - theta[1])], dim=1)


@pytest.fixture
def overlapping(frame):
    frame = frame.assign(first=(np.arange(150) < 100).astype(float), second=(np.arange(150) >= 40).astype(float))
    return frame, frame[frame["first"] == 1], frame[frame["second"] == 1]


@pytest.mark.parametrize("clustered", [False, True])
def test_contrast_of_overlapping_fits_is_that_of_stacked_equations(overlapping, clustered):
    frame, *parts = overlapping
    cov = eeqs.Cluster(frame["firm"], "CR0") if clustered else "HC0"
    stacked = eeqs.estimate(_means, frame[["y", "first", "second"]], [0.0, 0.0], cov)
    joint = stacked.delta(lambda b: b[0] - b[1])
    one, two = (eeqs.estimate(eeqs.moments.mean("y"), part) for part in parts)
    ours = eeqs.contrast(one, two, clusters="firm" if clustered else None)
    np.testing.assert_allclose(ours.params.iloc[0], joint.params.iloc[0], rtol=1e-8)
    np.testing.assert_allclose(ours.bse.iloc[0], joint.bse.iloc[0], rtol=1e-8)
    assert list(ours.params.index) == ["mean[y]"]
    if clustered:
        by_row = eeqs.contrast(one, two, clusters=frame["firm"])
        np.testing.assert_allclose(by_row.bse, ours.bse)


def test_contrast_of_two_models_on_the_same_rows(frame):
    """Slope with and without a covariate: stacking gives the covariance, adding variances does not."""
    short = eeqs.estimate(eeqs.moments.least_squares("y", ["x"]), frame)
    long = eeqs.estimate(eeqs.moments.least_squares("y", ["x", "z"]), frame)

    def stacked(theta, data):
        one = torch.ones_like(data["x"])
        a, b = torch.stack([one, data["x"]], 1), torch.stack([one, data["x"], data["z"]], 1)
        residual = (data["y"] - a @ theta[:2])[:, None], (data["y"] - b @ theta[2:])[:, None]
        return torch.cat([residual[0] * a, residual[1] * b], dim=1)

    joint = eeqs.estimate(stacked, frame[["y", "x", "z"]], np.zeros(5)).delta(lambda b: b[1] - b[3])
    ours = eeqs.contrast(short, long)
    assert list(ours.names) == ["Intercept", "x"]
    np.testing.assert_allclose(ours.bse["x"], joint.bse.iloc[0], rtol=1e-8)
    assert ours.bse["x"] < 0.5 * np.hypot(short.bse["x"], long.bse["x"])
    ratio = eeqs.contrast(short, long, lambda a, b: {"ratio": a[1] / b[1]})
    np.testing.assert_allclose(ratio.params["ratio"], short.params["x"] / long.params["x"])
    np.testing.assert_allclose(ours.wald(["x"]).pvalue, ours.pvalues["x"])
    assert (eeqs.contrast(long, long).bse == 0).all()


def test_contrast_of_separate_samples_adds_variances(frame):
    one, two = (eeqs.estimate(eeqs.moments.mean("y"), part) for part in (frame.iloc[:60], frame.iloc[60:]))
    np.testing.assert_allclose(
        eeqs.contrast(one, two).bse.iloc[0], np.hypot(one.bse.iloc[0], two.bse.iloc[0]), rtol=1e-12
    )


def test_contrast_refuses_rows_it_cannot_match(frame):
    psi = eeqs.moments.mean("y")
    fit = eeqs.estimate(psi, frame)
    with pytest.raises(eeqs.DataError, match="numbered from 0"):
        eeqs.contrast(fit, eeqs.estimate(eeqs.moments.mean("v"), {"v": np.arange(90.0)}), lambda a, b: a - b)
    with pytest.raises(eeqs.DataError, match='row "0" has different values of "y"'):
        eeqs.contrast(fit, eeqs.estimate(psi, frame.iloc[::-1].reset_index(drop=True)))
    with pytest.raises(eeqs.DataError, match='the second fit has several rows with the label "0"'):
        eeqs.contrast(fit, eeqs.estimate(psi, frame.set_index(frame.index // 2)))
    with pytest.raises(eeqs.DataError, match="frequency weights"):
        eeqs.contrast(eeqs.estimate(eeqs.weight(psi, "w", kind="frequency"), frame), fit)
    with pytest.raises(eeqs.DataError, match='unknown cluster column "shop"'):
        eeqs.contrast(fit, fit, clusters="shop")
    with pytest.raises(eeqs.DataError, match="no cluster label"):
        eeqs.contrast(fit, fit, clusters=pd.Series({0: "a"}))
    with pytest.raises(ValueError, match="share no parameter name"):
        eeqs.contrast(fit, eeqs.estimate(eeqs.moments.mean("x"), frame))


def test_contrast_covers_and_a_missing_covariance_is_caught():
    """Mean of all against mean of the first half: coverage by simulation, with and without the shared rows."""
    rng, psi = np.random.default_rng(9), eeqs.moments.mean("y")
    outcomes = []
    for _ in range(400):
        data = pd.DataFrame({"y": rng.exponential(size=100)})
        whole, half = eeqs.estimate(psi, data), eeqs.estimate(psi, data.iloc[:50])
        difference = eeqs.contrast(whole, half)
        naive = np.hypot(whole.bse.iloc[0], half.bse.iloc[0])
        outcomes.append([abs(difference.tvalues.iloc[0]) < 1.96, abs(difference.params.iloc[0]) < 1.96 * naive])
    joint, separate = np.mean(outcomes, axis=0)
    error = np.sqrt(0.05 * 0.95 / 400)
    assert abs(joint - 0.95) < 4 * error
    assert separate > 0.95 + 4 * error
