"""Bread, meat and sandwich against closed forms, and rank detection."""

import numpy as np
import pandas as pd
import pytest
import torch

import eeqs
from eeqs.engine.linalg import condition_number, equilibrate, invert, null_parameters

BETA = [0.2, 0.5, -0.3]


@pytest.fixture
def psi():
    return eeqs.moments.least_squares("y", ["x", "z"])


def _design(frame):
    return np.column_stack([np.ones(len(frame)), frame["x"], frame["z"]])


def test_bread_and_meat_are_the_closed_forms(psi, frame):
    x = _design(frame)
    residual = frame["y"] - x @ BETA
    n = len(frame)
    np.testing.assert_allclose(eeqs.bread(psi, BETA, frame), -x.T @ x / n, rtol=1e-13)
    meat = (x.T * residual.to_numpy() ** 2) @ x / n
    np.testing.assert_allclose(eeqs.meat(psi, BETA, frame), meat, rtol=1e-13)
    np.testing.assert_allclose(eeqs.meat(psi, BETA, frame, "HC1"), meat * n / (n - 3), rtol=1e-13)


@pytest.mark.parametrize("kind", ["CR0", "CR1", "CR1S"])
def test_clustered_meat_sums_psi_inside_clusters(psi, frame, kind):
    values = _design(frame) * (frame["y"] - _design(frame) @ BETA).to_numpy()[:, None]
    sums = pd.DataFrame(values).groupby(frame["firm"].to_numpy()).sum().to_numpy()
    n, groups = len(frame), len(sums)
    factor = {"CR0": 1, "CR1": groups / (groups - 1), "CR1S": groups / (groups - 1) * (n - 1) / (n - 3)}[kind]
    expected = factor * sums.T @ sums / n
    by_name = eeqs.meat(psi, BETA, frame, eeqs.Cluster("firm", kind))
    by_label = eeqs.meat(psi, BETA, frame, eeqs.Cluster(frame["firm"], kind))
    np.testing.assert_allclose(by_name, expected, rtol=1e-12)
    np.testing.assert_allclose(by_label, expected, rtol=1e-12)


def test_sandwich_is_the_product(generator):
    bread = torch.randn(4, 4, generator=generator, dtype=torch.float64)
    root = torch.randn(4, 4, generator=generator, dtype=torch.float64)
    meat = root @ root.mT
    inverse = torch.linalg.inv(bread)
    covariance = eeqs.sandwich(bread, meat, 50)
    torch.testing.assert_close(covariance, inverse @ meat @ inverse.mT / 50, rtol=1e-10, atol=1e-12)
    assert torch.equal(covariance, covariance.mT)


@pytest.mark.parametrize("cov", ["HC0", "HC1", "CR1", "one set of labels"])
def test_batch_is_the_loop(psi, frame, cov):
    columns = {name: torch.tensor(frame[name].to_numpy()) for name in ("y", "x", "z")}
    batch = {name: torch.stack([leaf, leaf.flip(0), 2 * leaf]) for name, leaf in columns.items()}
    thetas = torch.tensor([BETA, [0.0, 0.0, 0.0], [1.0, 2.0, 3.0]], dtype=torch.float64)
    codes = torch.arange(len(frame)) % 7
    labels = torch.stack([codes, codes // 2, codes + 100])
    together = {"CR1": eeqs.Cluster(labels), "one set of labels": eeqs.Cluster(codes)}.get(cov, cov)
    meats, breads = eeqs.meat(psi, thetas, batch, together), eeqs.bread(psi, thetas, batch)
    covariances = eeqs.sandwich(breads, meats, len(frame))
    for r in range(3):
        row = {name: leaf[r] for name, leaf in batch.items()}
        single = {"CR1": eeqs.Cluster(labels[r]), "one set of labels": eeqs.Cluster(codes)}.get(cov, cov)
        meat = eeqs.meat(psi, thetas[r], row, single)
        torch.testing.assert_close(meats[r], meat, rtol=1e-12, atol=1e-14)
        expected = eeqs.sandwich(eeqs.bread(psi, thetas[r], row), meat, len(frame))
        torch.testing.assert_close(covariances[r], expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: eeqs.Cluster("firm", "HC0"), 'unknown clustered covariance "HC0"; use one of'),
        (lambda: eeqs.meat(lambda t, d: d["y"] - t, [0.0], {"y": [1.0, 2.0]}, "CR1"), '"CR1" needs cluster labels'),
        (lambda: eeqs.meat(lambda t, d: d["y"] - t, [0.0], {"y": [1.0, 2.0]}, "hc0"), 'unknown covariance "hc0"'),
    ],
)
def test_unknown_covariance_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("labels", [[1, 2], [[1, 2, 3]]])
def test_cluster_labels_of_the_wrong_shape(labels):
    with pytest.raises(eeqs.DataError, match="cluster labels have shape"):
        eeqs.meat(lambda t, d: d["y"] - t, [0.0], {"y": [1.0, 2.0, 3.0]}, eeqs.Cluster(labels))


def test_hc1_needs_more_observations_than_parameters():
    data = {"y": [1.0, 2.0], "x": [0.0, 1.0]}
    with pytest.raises(eeqs.EeqsError, match="HC1"):
        eeqs.meat(eeqs.moments.least_squares("y", ["x"]), [1.0, 1.0], data, "HC1")


def test_text_cluster_column_beside_numbers_and_a_plain_psi(frame):
    """The plain function does not say which columns it reads, so the text column must be kept from it."""

    def plain(theta, data):
        assert "firm" not in data
        return data["y"] - theta

    named = eeqs.estimate(eeqs.moments.mean("y"), frame, cov=eeqs.Cluster("firm"))
    with_text = eeqs.estimate(plain, frame, [0.0], cov=eeqs.Cluster("firm"))
    assert with_text.bse.iloc[0] == pytest.approx(named.bse.iloc[0], rel=1e-12)
    assert with_text.cov_type == "CR1(firm)"


def test_equilibration_is_exact_and_levels_the_units(generator):
    matrix = torch.randn(5, 5, generator=generator, dtype=torch.float64)
    wild = (
        matrix
        * torch.logspace(-60, 60, 5, dtype=torch.float64)[:, None]
        * torch.logspace(40, -40, 5, dtype=torch.float64)
    )
    scaled, rows, columns = equilibrate(wild)
    assert torch.equal(scaled, wild * rows[:, None] * columns)
    assert scaled.abs().max() <= 2
    assert condition_number(wild) < 1e3 * torch.linalg.cond(matrix)


def test_dollars_beside_tiny_units_are_not_rank_deficient(frame):
    scaled = frame.assign(x=1e6 * frame["x"], z=1e-6 * frame["z"])
    one = eeqs.estimate(eeqs.moments.least_squares("y", ["x", "z"]), frame)
    other = eeqs.estimate(eeqs.moments.least_squares("y", ["x", "z"]), scaled)
    np.testing.assert_allclose(other.tvalues, one.tvalues, rtol=1e-9)
    assert other.solution.condition == pytest.approx(one.solution.condition, rel=2)


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        ({"copy": lambda f: f["x"]}, {"x", "copy"}),
        ({"copy": lambda f: 0.5 * f["x"] + 5}, {"Intercept", "x", "copy"}),
        ({"one": lambda f: 1.0 + 0 * f["x"]}, {"Intercept", "one"}),
        ({"s": lambda f: f["x"] ** 2, "t": lambda f: f["x"] - 2 * f["x"] ** 2}, {"x", "s", "t"}),
        ({"nil": lambda f: 0 * f["x"]}, {"nil"}),
    ],
    ids=["copy", "affine copy", "constant", "sum", "zero"],
)
@pytest.mark.parametrize("model", ["least_squares", "logit", "poisson"])
def test_rank_deficiency_names_the_columns_involved(frame, model, columns, named):
    data = frame.assign(**columns)
    psi = getattr(eeqs.moments, model)("binary", ["x", "z", *columns])
    with pytest.raises(eeqs.SingularBreadError, match="rank deficient") as caught:
        eeqs.estimate(psi, data)
    assert set(caught.value.parameters) == named
    for name in named:
        assert name in str(caught.value)


def test_null_parameters_of_a_full_rank_matrix():
    assert null_parameters(torch.eye(2, dtype=torch.float64), ("a", "b")) == ()
    assert null_parameters(torch.diag(torch.tensor([1.0, 0.0]).double()), ("a", "b")) == ("b",)


def test_singular_member_of_a_batch_is_nan_and_stops_nobody():
    breads = torch.stack([torch.eye(2), torch.ones(2, 2), torch.full((2, 2), torch.nan)]).double()
    covariances = eeqs.sandwich(breads, torch.eye(2).double().expand(3, 2, 2), 10)
    assert torch.equal(covariances[0], torch.eye(2).double() / 10)
    assert covariances[1:].isnan().all()


def test_non_finite_bread_is_refused():
    with pytest.raises(eeqs.SingularBreadError, match="NaN or infinite"):
        invert(torch.tensor([[torch.nan]], dtype=torch.float64))
