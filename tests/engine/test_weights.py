"""What weights mean: rows that stand for several, and rows that were sampled."""

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given
from hypothesis import strategies as st

import eeqs

X = ["x", "z"]
MODELS = {
    "least_squares": eeqs.moments.least_squares("y", X),
    "logit": eeqs.moments.logit("binary", X),
    "poisson": eeqs.moments.poisson("count", X),
    "variance": eeqs.moments.variance("y"),
    "ratio": eeqs.moments.ratio("y", "x"),
}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("cov", ["HC0", "HC1", "HC3", eeqs.Cluster("firm"), eeqs.Cluster("firm", "CR1S")], ids=str)
def test_frequency_weights_repeat_rows(frame, model, cov):
    weighted = eeqs.estimate(eeqs.weight(MODELS[model], "w", kind="frequency"), frame, cov=cov)
    repeated = eeqs.estimate(MODELS[model], frame.loc[frame.index.repeat(frame["w"])], cov=cov)
    assert weighted.nobs == repeated.nobs
    np.testing.assert_allclose(weighted.params, repeated.params, rtol=1e-9)
    np.testing.assert_allclose(weighted.cov_params(), repeated.cov_params(), rtol=1e-8)


@pytest.mark.parametrize("model", ["least_squares", "logit", "poisson"])
def test_probability_weights_scale_out(frame, model):
    data = frame.assign(w=frame["w"] + 0.5)
    one = eeqs.estimate(eeqs.weight(MODELS[model], "w"), data)
    other = eeqs.estimate(eeqs.weight(MODELS[model], "w"), data.assign(w=1e5 * data["w"]))
    np.testing.assert_allclose(other.params, one.params, rtol=1e-9)
    np.testing.assert_allclose(other.cov_params(), one.cov_params(), rtol=1e-8)


def test_probability_weights_of_statsmodels(frame):
    """WLS with HC0 and HC1 is the sandwich of weighted rows."""
    weights = frame["w"] + 0.5
    model = sm.WLS(frame["y"], sm.add_constant(frame[X]), weights=weights)
    for cov in ("HC0", "HC1", "HC3"):
        fit = eeqs.estimate(eeqs.moments.least_squares("y", X, weights="v"), frame.assign(v=weights), cov=cov)
        np.testing.assert_allclose(fit.bse, model.fit(cov_type=cov).bse, rtol=1e-9)


def test_frequency_weights_of_statsmodels(frame):
    model = sm.GLM(frame["binary"], sm.add_constant(frame[X]), family=sm.families.Binomial(), freq_weights=frame["w"])
    fit = eeqs.estimate(eeqs.weight(MODELS["logit"], "w", kind="frequency"), frame)
    np.testing.assert_allclose(fit.params, model.fit(tol=1e-12).params, rtol=1e-8)


def test_the_two_kinds_differ(frame):
    frequency = eeqs.estimate(eeqs.weight(MODELS["logit"], "w", kind="frequency"), frame)
    probability = eeqs.estimate(eeqs.weight(MODELS["logit"], "w"), frame)
    np.testing.assert_allclose(frequency.params, probability.params, rtol=1e-9)
    assert (frequency.bse < 0.99 * probability.bse).all()
    assert probability.nobs == len(frame)


@given(data=st.data())
def test_unit_weights_change_nothing(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    n = data.draw(st.integers(5, 60))
    sample = {"x": rng.normal(size=n), "y": rng.normal(size=n), "w": np.ones(n)}
    base = eeqs.estimate(eeqs.moments.least_squares("y", ["x"]), sample)
    for kind in ("probability", "frequency"):
        fit = eeqs.estimate(eeqs.weight(eeqs.moments.least_squares("y", ["x"]), "w", kind=kind), sample)
        np.testing.assert_allclose(fit.cov_params(), base.cov_params(), rtol=1e-9)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: eeqs.weight(eeqs.moments.mean("y"), "w", kind="aweight"),
            ValueError,
            'unknown kind of weights "aweight"',
        ),
        (lambda: eeqs.weight(eeqs.moments.quantile("y"), "w"), eeqs.PsiError, "step function"),
        (
            lambda: eeqs.weight(eeqs.weight(eeqs.moments.mean("y"), "w", kind="frequency"), "v"),
            eeqs.PsiError,
            "already has frequency weights",
        ),
        (
            lambda: eeqs.weight(eeqs.moments.gee("y", ["x"], "firm"), "w", kind="frequency"),
            eeqs.PsiError,
            "rows of this psi depend on each other",
        ),
    ],
)
def test_what_cannot_be_weighted(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        (-1.0, "probability", "must be non-negative"),
        (0.0, "probability", "at least one above zero"),
        (1.5, "frequency", "must be whole numbers"),
    ],
)
def test_bad_weights_are_named(frame, values, kind, message):
    with pytest.raises(eeqs.DataError, match=f'"w" {message}|"w" .*{message}'):
        eeqs.estimate(eeqs.weight(eeqs.moments.mean("y"), "w", kind=kind), frame.assign(w=values))


def test_frequency_weights_of_replicates_are_refused(frame):
    batch = {name: np.stack([frame[name], frame[name]]) for name in (*X, "y", "w")}
    with pytest.raises(eeqs.PsiError, match="frequency weights are for one data set"):
        eeqs.solve(eeqs.weight(MODELS["least_squares"], "w", kind="frequency"), batch, np.zeros((2, 3)))


@pytest.mark.parametrize("kind", ["probability", "frequency"])
def test_batches_may_have_no_weight(frame, kind):
    """A subpopulation may lie in some files only; all batches together need a weight."""
    ordered = frame.sort_values("w")[[*X, "y", "w"]]
    psi = eeqs.weight(MODELS["least_squares"], "w", kind=kind)
    streamed = eeqs.estimate(psi, lambda: (ordered.iloc[k : k + 10] for k in range(0, len(ordered), 10)))
    np.testing.assert_allclose(streamed.bse, eeqs.estimate(psi, frame).bse, rtol=1e-9)
    with pytest.raises((eeqs.DataError, eeqs.SingularBreadError)):
        eeqs.estimate(psi, lambda: iter([ordered.assign(w=0.0)] * 2))


def test_a_weighted_block_of_a_stack_needs_a_weight(frame):
    with pytest.raises(eeqs.DataError, match='weights "w" must be non-negative, with at least one above zero'):
        eeqs.estimate(eeqs.stack(a=eeqs.weight(eeqs.moments.mean("y"), "w")), frame.assign(w=0.0))


def test_smoothing_takes_no_frequency_weights():
    psi = eeqs.weight(eeqs.EstimatingFunction(lambda t, d: d["y"] - t, columns=("y",)), "w", kind="frequency")
    with pytest.raises(eeqs.PsiError, match="takes no frequency weights"):
        eeqs.induced_smoothing(psi, start=[0.0], scale=[1.0])
