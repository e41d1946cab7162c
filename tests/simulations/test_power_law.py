"""Power-law designs: the source condition, the features, and the deterministic equivalent of ridge's excess risk."""

import numpy as np
import pytest
import torch

from simulations.designs.power_law import PowerLaw, gram
from simulations.designs.ridge_equivalent import best_penalty, equivalent_risk
from simulations.designs.ridge_lines import LINES, Line, theory_penalty

SIZES = np.array([64, 128, 256, 512, 1024, 2048])


def _octaves(design: PowerLaw, order: float) -> np.ndarray:
    """Parts of sum_j lambda_j^(-2 order) beta_j^2 between j = 2^k and 2^(k + 1)."""
    ranks = np.arange(1, design.dimension + 1)
    eigenvalues = ranks**-design.decay
    terms = eigenvalues ** (1 - 2 * order) * design.coefficients.numpy() ** 2
    return np.array([terms[(ranks >= 2**k) & (ranks < 2 ** (k + 1))].sum() for k in range(4, 12)])


@pytest.mark.parametrize(("decay", "source"), [(1.5, 0.5), (2.0, 0.75), (3.0, 1.0), (2.0, 0.35)])
def test_target_is_on_the_edge_of_its_source_condition(decay: float, source: float) -> None:
    design = PowerLaw(decay, source, dimension=4096)
    at, below, above = (_octaves(design, source + shift) for shift in (0.0, -0.1, 0.1))
    np.testing.assert_allclose(at, at[-1], rtol=0.04)  # diverges like a logarithm
    np.testing.assert_allclose(below[1:] / below[:-1], 2 ** (-0.2 * decay), rtol=0.04)
    assert (above[1:] > above[:-1]).all()


def test_exponents_are_those_of_caponnetto_and_de_vito() -> None:
    # In their notation b = a and c = 2r: rate n^(-bc / (bc + 1)) at the penalty n^(-b / (bc + 1)).
    for decay, source, rate, penalty in ((1.5, 0.5, 3 / 5, 3 / 5), (2.0, 0.75, 3 / 4, 1 / 2), (2.0, 1.0, 4 / 5, 2 / 5)):
        design = PowerLaw(decay, source)
        assert design.exponent == pytest.approx(rate)
        assert design.penalty_exponent == pytest.approx(penalty)


def test_variances_and_features_agree_with_their_definition() -> None:
    design = PowerLaw(1.5, 0.5, signal=4.0, dimension=30)
    assert float(design.variances.sum()) == pytest.approx(4.0)
    x = design.features(20_000, torch.Generator().manual_seed(0)).double()
    assert x.shape == (20_000, 30)
    spread = (2 / 20_000) ** 0.5
    assert ((x.square().mean(dim=0) / design.eigenvalues - 1).abs() < 5 * spread).all()
    index = x @ design.coefficients
    assert abs(float(index.square().mean()) / 4 - 1) < 5 * spread


@pytest.mark.parametrize("n", [3, 256, 600])
def test_gram_is_the_matrix_of_inner_products(n: int) -> None:
    x = PowerLaw(1.5, 0.5, dimension=200).features(n, torch.Generator().manual_seed(1))
    products = gram(x)
    assert products.dtype == torch.float64
    assert torch.equal(products, products.mT)
    torch.testing.assert_close(products, x.double() @ x.double().mT, rtol=1e-5, atol=1e-5)


def test_bad_designs_are_refused() -> None:
    for bad in ({"decay": 1.0}, {"source": 0.0}, {"source": 1.2}, {"signal": 0.0}, {"dimension": 0}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            PowerLaw(**{"decay": 2.0, "source": 0.5, **bad})
    with pytest.raises(ValueError, match="penalty is 0"):
        equivalent_risk(PowerLaw(2.0, 0.5), 10, 0.0, 1.0)


def _simulated_risks(design: PowerLaw, n: int, penalty: float, noise: float, replicates: int) -> np.ndarray:
    """Excess risks of ridge in its primal closed form, in numpy."""
    rng = np.random.default_rng(0)
    scales = np.arange(1, design.dimension + 1) ** (-design.decay / 2)
    truth = design.coefficients.numpy()
    risks = []
    for _ in range(replicates):
        x = rng.standard_normal((n, design.dimension)) * scales
        y = x @ truth + noise**0.5 * rng.standard_normal(n)
        fitted = np.linalg.solve(x.T @ x / n + penalty * np.eye(design.dimension), x.T @ y / n)
        risks.append(np.sum(scales**2 * (fitted - truth) ** 2))
    return np.array(risks)


@pytest.mark.parametrize("penalty", [0.003, 0.03, 0.3])
def test_equivalent_predicts_simulated_risk(penalty: float) -> None:
    design, n, noise = PowerLaw(1.5, 0.5, dimension=250), 150, 0.5
    risks = _simulated_risks(design, n, penalty, noise, 150)
    expected = equivalent_risk(design, n, penalty, noise)
    error = risks.std(ddof=1) / len(risks) ** 0.5
    assert abs(risks.mean() - expected) < 4 * error + 0.01 * expected  # the equivalent's own error is of order 1/n
    assert abs(risks.mean() - equivalent_risk(design, n, penalty, 2 * noise)) > 4 * error or penalty == 0.3


def test_best_penalty_is_a_minimum() -> None:
    design = PowerLaw(2.0, 0.5)
    best = best_penalty(design, 512, 0.5)
    at, *aside = (equivalent_risk(design, 512, factor * best, 0.5) for factor in (1.0, 0.8, 1.25))
    assert at < min(aside)


@pytest.mark.parametrize("line", LINES, ids=lambda line: str(line.levels))
def test_equivalents_fall_at_the_theorys_rate(line: Line) -> None:
    sizes = SIZES[line.burn_in <= SIZES]
    found = np.polyfit(np.log(sizes), np.log([line.equivalent(int(n)) for n in sizes]), 1)[0]
    assert found == pytest.approx(-line.design.exponent, abs=0.01)


def test_penalty_falls_at_the_theorys_rate() -> None:
    line = LINES[2]
    fall = theory_penalty(line, 2048) / theory_penalty(line, 64)
    assert fall == pytest.approx(32**-line.design.penalty_exponent)
