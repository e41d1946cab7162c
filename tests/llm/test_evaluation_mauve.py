"""MAUVE against closed forms, direct integration and simulation; k-means against exhaustive search."""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, special

from eeqs.engine.errors import DataError
from eeqs.llm.evaluation import mauve
from eeqs.llm.evaluation.kmeans import kmeans
from eeqs.llm.evaluation.mauve import mauve_of_histograms, principal_components


def _area(p: list[float], q: list[float], scaling: float = 5.0) -> float:
    return float(
        mauve_of_histograms(torch.tensor(p, dtype=torch.float64), torch.tensor(q, dtype=torch.float64), scaling)
    )


def _integrated(p: np.ndarray, q: np.ndarray, scaling: float) -> float:
    """Area by adaptive quadrature of y times minus the derivative of x, both differentiated by hand."""
    with np.errstate(divide="ignore"):
        last = np.exp(-scaling * special.rel_entr(q, p).sum())

    def integrand(t: float) -> float:
        r = t * p + (1 - t) * q
        x, y = (np.exp(-scaling * special.rel_entr(one, r).sum()) for one in (q, p))
        slope = x * scaling * (q * (p - q) / r).sum()
        return -y * slope

    return last + integrate.quad(integrand, 0, 1, epsabs=1e-10, limit=200)[0]


@pytest.mark.parametrize("scaling", [1.0, 5.0])
@pytest.mark.parametrize("own", [1.0, 0.5, 0.1, 0.01])
def test_partly_disjoint_distributions_have_a_beta_integral(own, scaling):
    # KL(P | R) is -own log(lambda): the area is a B(a + 1, a) with a = scaling * own.
    a = scaling * own
    expected = a * special.beta(a + 1, a)
    assert _area([own, 0, 1 - own, 0], [0, own, 1 - own, 0], scaling) == pytest.approx(expected, rel=1e-3)


@given(st.integers(0, 10_000), st.floats(0.5, 8))
def test_the_area_is_that_of_quadrature_symmetric_and_invariant_to_the_cells(seed, scaling):
    rng = np.random.default_rng(seed)
    p, q = rng.dirichlet(np.ones(6), size=2)
    found = _area(list(p), list(q), scaling)
    assert found == pytest.approx(_integrated(p, q, scaling), rel=1e-3)
    assert found == pytest.approx(_area(list(q), list(p), scaling), rel=1e-9)
    order = rng.permutation(6)
    assert found == pytest.approx(_area(list(p[order]), list(q[order]), scaling), rel=1e-9)
    split = [part for one in p for part in (one / 2, one / 2)], [part for one in q for part in (one / 2, one / 2)]
    assert found == pytest.approx(_area(*split, scaling), rel=1e-9)
    merged = _area([p[0] + p[1], *p[2:]], [q[0] + q[1], *q[2:]], scaling)
    assert merged >= found - 1e-9  # less is told apart


def test_equal_distributions_have_area_one():
    assert _area([0.2, 0.3, 0.5], [0.2, 0.3, 0.5]) == pytest.approx(1, rel=1e-12)


def test_samples_from_one_law_are_near_one_apart_near_zero_and_in_between_it_falls():
    rng = np.random.default_rng(0)
    human = rng.normal(size=(500, 3))
    options = {"n_clusters": 20, "unit_length": False, "explained": None, "seeds": (0, 1, 2), "restarts": 1}
    shifts = [0.0, 0.5, 1.0, 2.0, 8.0]
    values = [mauve(human, rng.normal([shift, 0, 0], 1, size=(500, 3)), **options).mean for shift in shifts]
    assert values[0] > 0.95
    assert values[-1] < 0.02
    assert (np.diff(values) < 0).all()
    same = mauve(human, human, **options)
    assert same.mean == pytest.approx(1, abs=1e-9)
    assert same.se == pytest.approx(0, abs=1e-6)


def test_seeds_are_reported_and_reproducible():
    rng = np.random.default_rng(1)
    human, model = rng.normal(size=(120, 4)), rng.normal(0.3, 1, size=(120, 4))
    found, again = (mauve(human, model, seeds=(3, 4, 5)) for _ in range(2))
    assert found == again
    assert found.values[1] == mauve(human, model, seeds=(4,)).values[0]
    assert (found.mean, found.sd) == pytest.approx((np.mean(found.values), np.std(found.values, ddof=1)))
    assert found.sd > 0
    assert found.n_clusters == 12
    assert np.isnan(mauve(human, model, seeds=(4,)).sd)


def test_smoothing_is_krichevsky_trofimov():
    human, model = np.array([[0.0]] * 30 + [[9.0]] * 10), np.array([[0.0]] * 15 + [[9.0]] * 25)
    options = {"n_clusters": 2, "unit_length": False, "explained": None, "seeds": (0,)}
    assert mauve(human, model, **options).mean == pytest.approx(
        _area([30.5 / 41, 10.5 / 41], [15.5 / 41, 25.5 / 41]), rel=1e-9
    )
    plain = mauve(human, model, smoothing=0, **options)
    assert plain.mean == pytest.approx(_area([0.75, 0.25], [0.375, 0.625]), rel=1e-9)
    assert np.isnan(plain.se)


def test_the_standard_error_is_that_of_repeated_samples_given_the_cells():
    # Cells are given by construction: values 0, 1, 2 far apart; documents are pairs of texts that agree.
    rng, options = np.random.default_rng(2), {"n_clusters": 3, "unit_length": False, "explained": None, "seeds": (0,)}
    laws = (np.array([0.5, 0.3, 0.2]), np.array([0.3, 0.3, 0.4]))
    names = tuple([f"{kind}{i // 2}" for i in range(200)] for kind in ("human", "model"))
    found = []
    for _ in range(150):
        human, model = (np.repeat(rng.choice(3, 100, p=law), 2)[:, None].astype(float) for law in laws)
        found.append(mauve(human, model, restarts=3, documents=names, **options))
    spread, se = np.std([one.mean for one in found]), np.mean([one.se for one in found])
    # Standard error of the spread 5.8 %; 3.5 of them.
    assert se == pytest.approx(spread, rel=0.2)
    # Planted error: texts of a document taken for independent.
    alone = mauve(human, model, restarts=3, **options).se
    assert alone == pytest.approx(found[-1].se / np.sqrt(2), rel=0.02)


def test_principal_components_keep_the_variance_and_the_distances():
    points = np.random.default_rng(3).normal(size=(80, 5)) * [5, 3, 1, 0.1, 0.1]
    whole = principal_components(points, 1.0)
    distances = [np.square(x[:, None] - x).sum(-1) for x in (whole, points)]
    np.testing.assert_allclose(*distances, atol=1e-8)
    values = np.linalg.eigvalsh(np.cov(points.T))[::-1]
    kept = principal_components(points, 0.9)
    shares = values.cumsum() / values.sum()
    assert kept.shape[1] == int((shares < 0.9).sum()) + 1
    np.testing.assert_allclose(kept.var(axis=0, ddof=1), values[: kept.shape[1]], rtol=1e-9)
    assert principal_components(np.ones((4, 2)), 0.9).shape == (4, 1)


def test_kmeans_finds_the_best_partition_of_few_points():
    rng = np.random.default_rng(4)
    points = rng.normal(size=(8, 2))

    def loss(labels: np.ndarray) -> float:
        return sum(np.square(points[labels == c] - points[labels == c].mean(0)).sum() for c in set(labels.tolist()))

    best = min(loss(np.array(labels)) for labels in product(range(3), repeat=8))
    assert loss(kmeans(points, 3, rng, restarts=30)) == pytest.approx(best, rel=1e-9)
    assert len(set(kmeans(np.ones((5, 2)), 3, rng).tolist())) == 1


def test_bad_input_is_named():
    ok = np.random.default_rng(5).normal(size=(10, 3))
    with pytest.raises(DataError, match=r"human features have shape \(10,\)"):
        mauve(ok[:, 0], ok)
    with pytest.raises(DataError, match="model features have shape"):
        mauve(ok, np.full((10, 3), np.nan))
    with pytest.raises(DataError, match="3 coordinates, model features 2"):
        mauve(ok, ok[:, :2])
    with pytest.raises(DataError, match="n_clusters is 30 for 20 texts"):
        mauve(ok, ok, n_clusters=30)
    with pytest.raises(DataError, match="2 names of documents for 20 texts"):
        mauve(ok, ok, documents=(["a"], ["b"]))
    with pytest.raises(ValueError, match="scaling -1"):
        mauve(ok, ok, scaling=-1)
    with pytest.raises(ValueError, match="explained is 2"):
        mauve(ok, ok, explained=2)
