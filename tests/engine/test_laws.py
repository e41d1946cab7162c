"""Laws that every estimating function obeys, over random data, models and transformations."""

import numpy as np
import pandas as pd
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

import eeqs

RESPONSE = {"least_squares": "y", "logit": "binary", "poisson": "count"}
MODELS = st.sampled_from([*RESPONSE, "variance", "robust"])
SEEDS = st.integers(0, 2**16)


def _robust(theta, data):
    return (data["y"] - theta[0] - theta[1] * data["x"] - theta[2] * data["z"]).cosh().log()


def _psi(model, scale=""):
    if model == "variance":
        return eeqs.moments.variance("x" + scale, "z" + scale)
    if model == "robust":
        return eeqs.from_loss(_robust, columns=("y", "x", "z"))
    return getattr(eeqs.moments, model)(RESPONSE[model], ["x" + scale, "z" + scale])


def _frame(seed, n=80):
    rng = np.random.default_rng(seed)
    x, z = rng.normal(size=n), rng.exponential(size=n)
    index = 0.4 * x - 0.3 * z
    columns = {
        "y": index + rng.normal(size=n),
        "binary": (rng.uniform(size=n) < 1 / (1 + np.exp(-index))).astype(float),
        "count": rng.poisson(np.exp(index)).astype(float),
        "x": x,
        "z": z,
        "g": rng.integers(0, 9, size=n).astype(float),
        "w": rng.integers(0, 4, size=n).astype(float),
    }
    return pd.DataFrame(columns)


def _start(psi):
    return None if psi.start is not None else torch.zeros(3)


def _fit(psi, data, cov="HC0", theta0=None):
    return eeqs.estimate(psi, data, _start(psi) if theta0 is None else theta0, cov=cov)


def _close(actual, expected, rtol=1e-9):
    """Entries agree relative to the largest: off-diagonal ones may be zero by chance."""
    expected = np.asarray(expected)
    np.testing.assert_allclose(np.asarray(actual), expected, rtol=rtol, atol=rtol * np.abs(expected).max())


@given(model=MODELS, seed=SEEDS, clustered=st.booleans())
def test_order_of_rows_does_not_matter(model, seed, clustered):
    frame, psi = _frame(seed), _psi(model)
    cov = eeqs.Cluster("g") if clustered else "HC1"
    one = _fit(psi, frame, cov)
    other = _fit(psi, frame.sample(frac=1, random_state=seed), cov)
    _close(other.params, one.params)
    for field in ("bread", "meat", "covariance"):
        _close(getattr(other, field), getattr(one, field))


@given(model=MODELS, seed=SEEDS)
def test_integer_weights_are_duplicated_rows(model, seed):
    frame, psi = _frame(seed), _psi(model)
    weighted_psi = eeqs.weight(psi, "w")
    repeated = frame.loc[frame.index.repeat(frame["w"].astype(int))]
    one = _fit(weighted_psi, frame, theta0=_start(psi))
    other = _fit(psi, repeated, eeqs.Cluster(repeated.index.to_numpy(), "CR0"))
    _close(one.params, other.params, 1e-8)
    _close(len(frame) * one.bread, len(repeated) * other.bread, 1e-8)
    _close(one.covariance, other.covariance, 1e-8)


@given(model=MODELS, seed=SEEDS)
def test_affine_reparametrisation(model, seed):
    """theta -> M theta + c changes the estimate the same way and the covariance to M V M'."""
    frame, psi = _frame(seed), _psi(model)
    one = _fit(psi, frame)
    p = len(one.params)
    rng = np.random.default_rng(seed)
    matrix = torch.from_numpy(np.eye(p) + 0.3 * rng.normal(size=(p, p)))
    assume(torch.linalg.cond(matrix) < 50)
    shift = torch.from_numpy(rng.normal(size=p))

    def moved(theta, data):
        return psi.psi(torch.linalg.solve(matrix, theta - shift), data)

    changed = eeqs.EstimatingFunction(moved, columns=psi.columns, prepare=psi.prepare)
    start = one.solution.theta + 0.05 * one.covariance.diagonal().sqrt()
    other = _fit(changed, frame, theta0=matrix @ start + shift)
    _close(other.params, matrix @ one.solution.theta + shift, 1e-8)
    _close(other.covariance, matrix @ one.covariance @ matrix.mT, 1e-7)


@given(
    model=st.sampled_from([*RESPONSE, "variance"]),
    seed=SEEDS,
    exponents=st.tuples(st.integers(-6, 6), st.integers(-6, 6)),
)
def test_units_of_columns_do_not_change_t_values(model, seed, exponents):
    """Twelve orders of magnitude between two regressors."""
    frame = _frame(seed)
    scaled = frame.assign(xs=frame["x"] * 10.0 ** exponents[0], zs=frame["z"] * 10.0 ** exponents[1])
    one, other = _fit(_psi(model), frame), _fit(_psi(model, "s"), scaled)
    np.testing.assert_allclose(other.tvalues.to_numpy(), one.tvalues.to_numpy(), rtol=1e-8, atol=1e-8)


@given(model=MODELS, seed=SEEDS, exponent=st.integers(-100, 100))
def test_combining_the_equations_changes_nothing(model, seed, exponent):
    """psi and C psi have the same root and the same sandwich for every invertible C."""
    frame, psi = _frame(seed), _psi(model)
    one = _fit(psi, frame)
    p = len(one.params)
    matrix = torch.from_numpy(np.eye(p) + 0.3 * np.random.default_rng(seed).normal(size=(p, p)))
    assume(torch.linalg.cond(matrix) < 50)
    mixed = eeqs.EstimatingFunction(
        lambda t, d: 10.0**exponent * psi.psi(t, d) @ matrix.mT, columns=psi.columns, prepare=psi.prepare
    )
    other = _fit(mixed, frame, theta0=one.solution.theta + 0.05 * one.covariance.diagonal().sqrt())
    _close(other.params, one.params, 1e-8)
    _close(other.covariance, one.covariance, 1e-7)


@given(model=MODELS, seed=SEEDS, cov=st.sampled_from(["HC0", "HC1", "CR0", "CR1", "CR1S"]))
def test_meat_and_covariance_are_symmetric_and_positive(model, seed, cov):
    fit = _fit(_psi(model), _frame(seed), cov if cov.startswith("HC") else eeqs.Cluster("g", cov))
    for matrix in (fit.meat, fit.covariance):
        assert torch.allclose(matrix, matrix.mT, rtol=1e-13, atol=0)
        values = torch.linalg.eigvalsh(matrix)
        assert values[0] > -1e-12 * values[-1]


@given(model=MODELS, seed=SEEDS)
def test_clusters_of_one_are_independent_rows(model, seed):
    frame, psi = _frame(seed), _psi(model)
    n = len(frame)
    one, other = _fit(psi, frame), _fit(psi, frame, eeqs.Cluster(np.arange(n), "CR0"))
    _close(other.covariance, one.covariance, 1e-12)
    corrected = _fit(psi, frame, eeqs.Cluster(np.arange(n), "CR1"))
    _close(corrected.covariance, n / (n - 1) * one.covariance, 1e-12)


@given(model=MODELS, seed=SEEDS, kind=st.sampled_from(["CR0", "CR1", "CR1S"]))
def test_names_of_clusters_do_not_matter(model, seed, kind):
    frame, psi = _frame(seed), _psi(model)
    renamed = [f"cluster {5 - g}" for g in frame["g"]]
    one, other = _fit(psi, frame, eeqs.Cluster("g", kind)), _fit(psi, frame, eeqs.Cluster(renamed, kind))
    _close(other.covariance, one.covariance, 1e-12)


@given(model=MODELS, seed=SEEDS, size=st.integers(1, 5))
def test_a_batch_is_the_loop(model, seed, size):
    """Equal up to the rounding of batched kernels; the roots are equal to the solver's tolerance."""
    psi = _psi(model)
    frames = [_frame(seed + r) for r in range(size)]
    batch = {name: torch.tensor(np.stack([frame[name] for frame in frames])) for name in psi.columns}
    singles = [eeqs.solve(psi, frame, _start(psi)) for frame in frames]
    start = torch.stack([torch.zeros(3).double() if psi.start is None else _own_start(psi, f) for f in frames])
    together = eeqs.solve(psi, batch, start)
    assert together.status == tuple(single.status for single in singles)
    thetas = torch.stack([single.theta for single in singles])
    torch.testing.assert_close(together.theta, thetas, rtol=1e-8, atol=1e-10)
    covariances = eeqs.sandwich(
        eeqs.bread(psi, thetas, batch), eeqs.meat(psi, thetas, batch, eeqs.Cluster(torch.arange(80) % 9)), 80
    )
    for r, frame in enumerate(frames):
        alone = eeqs.sandwich(
            eeqs.bread(psi, thetas[r], frame), eeqs.meat(psi, thetas[r], frame, eeqs.Cluster(np.arange(80) % 9)), 80
        )
        _close(covariances[r], alone, 1e-10)


def _own_start(psi, frame):
    return psi.start(psi.prepare({name: torch.tensor(frame[name].to_numpy()) for name in psi.columns}))


@given(seed=SEEDS, order=st.permutations(range(4)))
def test_replicates_do_not_see_each_other(seed, order):
    """Permuting the replicates permutes the results, bit for bit."""
    psi = _psi("logit")
    frames = [_frame(seed + r) for r in range(4)]
    batch = {name: torch.tensor(np.stack([frame[name] for frame in frames])) for name in psi.columns}
    permuted = {name: leaf[list(order)] for name, leaf in batch.items()}
    one, other = (eeqs.solve(psi, data, torch.zeros(4, 3)) for data in (batch, permuted))
    torch.testing.assert_close(other.theta, one.theta[list(order)], rtol=1e-12, atol=1e-13)
    assert other.status == tuple(one.status[k] for k in order)
