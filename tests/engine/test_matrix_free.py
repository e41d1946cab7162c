"""Matrix-free roots and intervals against the dense ones."""

import numpy as np
import pytest
import statsmodels.api as sm
import torch

import eeqs

N, P = 150, 220


@pytest.fixture(scope="module")
def sample():
    generator = torch.Generator().manual_seed(5)
    X = torch.randn(N, P, generator=generator, dtype=torch.float64) * torch.arange(1, P + 1) ** -0.5
    Z = X + 0.3 * torch.randn(N, P, generator=generator, dtype=torch.float64)
    index = X[:, :5].sum(1)
    y = (torch.rand(N, generator=generator, dtype=torch.float64) < torch.sigmoid(index)).double()
    return {"X": X, "Z": Z, "y": y, "firm": torch.arange(N) % 30}


def _logit(strength=0.02):
    return eeqs.ridge(
        eeqs.from_linear_index(lambda e, d: d["y"] - torch.sigmoid(e), lambda d: d["X"], columns=("X", "Z", "y")),
        strength,
    )


def _plain(theta, data):
    return (data["y"] - torch.sigmoid(data["X"] @ theta))[:, None] * data["X"] - 0.02 * theta


def _instrumental():
    return eeqs.ridge(
        eeqs.from_linear_index(
            lambda e, d: d["y"] - e, lambda d: d["X"], instruments=lambda d: d["Z"], columns=("X", "Z", "y")
        ),
        0.05,
    )


C = np.linspace(1.0, -1.0, P)


@pytest.mark.parametrize("cov", ["HC0", eeqs.Cluster("firm")], ids=str)
@pytest.mark.parametrize(
    ("psi", "symmetric"),
    [(_logit(), None), (_logit(), False), (_plain, True), (_plain, None), (_instrumental(), None)],
    ids=["logit", "logit by lsmr", "plain", "plain by lsmr", "instrumental"],
)
def test_equals_the_dense_estimate(sample, psi, symmetric, cov):
    data = sample if psi is not _plain or cov != "HC0" else {name: sample[name] for name in ("X", "y")}
    free = eeqs.estimate_functional(psi, data, C, np.zeros(P), cov, symmetric=symmetric)
    dense = eeqs.estimate(psi, data, np.zeros(P), cov)
    functional = float(C @ dense.params), float(np.sqrt(C @ dense.cov_params().to_numpy() @ C))
    assert free.estimate == pytest.approx(functional[0], rel=1e-6)
    assert free.se == pytest.approx(functional[1], rel=1e-6)
    lower, upper = free.conf_int()
    assert (upper - lower) / 2 == pytest.approx(1.959963984540054 * free.se)
    assert free.products > 0


def test_several_indices():
    rng = np.random.default_rng(0)
    data = {"x": rng.normal(size=400), "y": rng.gamma(3.0, size=400)}
    psi = eeqs.moments.gamma("y", ["x"])
    dense = eeqs.estimate(psi, data)
    for j in range(3):
        free = eeqs.estimate_functional(psi, data, np.eye(3)[j])
        assert free.estimate == pytest.approx(dense.params.iloc[j], rel=1e-7, abs=1e-9)
        assert free.se == pytest.approx(dense.bse.iloc[j], rel=1e-7)


def test_units_do_not_matter(sample):
    """Per-parameter penalties keep the problem the same in other units, over ten orders of magnitude."""
    unit = torch.logspace(-5, 5, P, dtype=torch.float64)
    base = eeqs.estimate_functional(_logit([0.02] * P), sample, C, np.zeros(P))
    scaled = sample | {"X": sample["X"] * unit}
    other = eeqs.estimate_functional(_logit((0.02 * unit**2).tolist()), scaled, C * unit.numpy(), np.zeros(P))
    assert other.estimate == pytest.approx(base.estimate, rel=1e-6)
    assert other.se == pytest.approx(base.se, rel=1e-6)


def test_an_undetermined_functional_is_refused():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(80, 1))
    X = np.hstack([x, x])
    data = {"X": X, "y": x[:, 0] + rng.normal(size=80)}
    psi = eeqs.from_linear_index(lambda e, d: d["y"] - e, lambda d: d["X"])
    total = eeqs.estimate_functional(psi, data, [1.0, 1.0], [0.0, 0.0])
    one = eeqs.estimate(eeqs.from_linear_index(lambda e, d: d["y"] - e, lambda d: d["X"][:, :1]), data, [0.0])
    assert total.estimate == pytest.approx(one.params.iloc[0], rel=1e-7)
    assert total.se == pytest.approx(one.bse.iloc[0], rel=1e-7)
    with pytest.raises(eeqs.SingularBreadError, match="not determined by the equations"):
        eeqs.estimate_functional(psi, data, [1.0, -1.0], [0.0, 0.0])


@pytest.mark.parametrize("cov", ["HC1", "HC3", eeqs.Cluster("firm", "CR1S")], ids=str)
def test_factors_that_count_parameters_are_refused(sample, cov):
    with pytest.raises(ValueError, match="matrix-free"):
        eeqs.estimate_functional(_logit(), sample, C, np.zeros(P), cov)


@pytest.mark.parametrize("c", [np.ones(3), np.full(P, np.nan)])
def test_bad_functionals_are_named(sample, c):
    with pytest.raises(eeqs.PsiError, match=f"pass {P} finite weights"):
        eeqs.estimate_functional(_logit(), sample, c, np.zeros(P))


def test_no_root_is_an_error(sample):
    with pytest.raises(eeqs.SolverError):
        eeqs.estimate_functional(lambda t, d: d["y"] + 1 + t.square(), {"y": sample["y"]}, [1.0], [0.5])


@pytest.mark.parametrize(
    "cov",
    [eeqs.Jackknife(), eeqs.Bootstrap(20, seed=1), eeqs.FayGraubard(), eeqs.Cluster("firm", "CR2")],
    ids=lambda cov: type(cov).__name__,
)
def test_covariances_that_refit_are_refused(sample, cov):
    with pytest.raises(ValueError, match="needs parameters, leverages or refits"):
        eeqs.estimate_functional(_logit(), sample, C, np.zeros(P), cov)


@pytest.mark.parametrize("gap", [1e-1, 1e-2, 1e-3, 1e-4])
@pytest.mark.parametrize("symmetric", [True, False])
def test_nearly_collinear_columns(gap, symmetric):
    """Against least squares on columns rotated to condition one, in whose terms the functional is known exactly."""
    rng = np.random.default_rng(6)
    x, noise = rng.normal(size=(2, 200))
    near = x + gap * noise
    data = {"X": np.column_stack([np.ones(200), x, near]), "y": x + rng.normal(size=200)}
    psi = eeqs.from_linear_index(lambda e, d: d["y"] - e, lambda d: d["X"])
    rotated = sm.OLS(data["y"], np.column_stack([np.ones(200), x, (near - x) / gap])).fit(cov_type="HC0")
    for c, along in (([0, 1, 1], [0, 1, 0]), ([0, 0, 1], [0, 0, 1 / gap])):
        free = eeqs.estimate_functional(psi, data, c, np.zeros(3), symmetric=symmetric)
        reference = rotated.t_test(np.array(along, dtype=float))
        # A relative residual of 1e-10 in systems of condition up to 1/gap^2, of which Krylov solves lose the root.
        assert free.se == pytest.approx(float(reference.sd[0, 0]), rel=1e-6)
        assert free.estimate == pytest.approx(float(reference.effect[0]), rel=0, abs=1e-6 * free.se)


def test_batches_and_frequency_weights(sample):
    data = {name: sample[name] for name in ("X", "y", "firm")}
    batches = lambda: ({name: leaf[a:b] for name, leaf in data.items()} for a, b in ((0, 40), (40, N)))  # noqa: E731
    psi = eeqs.ridge(
        eeqs.from_linear_index(lambda e, d: d["y"] - torch.sigmoid(e), lambda d: d["X"], columns=("X", "y")), 0.02
    )
    memory = eeqs.estimate_functional(psi, data, C, np.zeros(P), eeqs.Cluster("firm"))
    streamed = eeqs.estimate_functional(psi, batches, C, np.zeros(P), eeqs.Cluster("firm"))
    assert streamed.se == pytest.approx(memory.se, rel=1e-8)
    counts = torch.arange(N) % 3
    repeated = {name: leaf.repeat_interleave(counts, dim=0) for name, leaf in data.items()}
    weighted = eeqs.estimate_functional(eeqs.weight(psi, "w", kind="frequency"), data | {"w": counts}, C, np.zeros(P))
    assert weighted.se == pytest.approx(eeqs.estimate_functional(psi, repeated, C, np.zeros(P)).se, rel=1e-6)
