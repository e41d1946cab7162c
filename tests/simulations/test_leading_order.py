"""Leading order of what draws cost: quadrature by a formula of its own against simulation with the library's scores."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

from eeqs.marginal import Draws, Score, cross_fitted, exact, iid, plug_in, quadratic, sobol, two_sample
from simulations.designs.frozen_kernel import FrozenKernel
from simulations.designs.leading_order import LeadingOrder

DESIGN = FrozenKernel()
THEORY = LeadingOrder(DESIGN)
# Standard errors within which a simulated value must lie: false alarms of 1 in 16,000 each.
REACH = 4


def _sample(score: Score, draws: Draws, n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Psi and the exact score of n observations at the truth."""
    model = DESIGN.model()
    data = DESIGN.sample(n, draws, torch.Generator().manual_seed(seed))
    data["y"] = data["y"].double()
    return model.psi(score, draws=draws)(model.theta, data)[:, 0], model.psi(exact(60))(model.theta, data)[:, 0]


def _excess(score: Score, draws: Draws, samples: int, n: int = 2000) -> tuple[float, float]:
    """Excess variance of an unbiased psi by the difference of two variances, and its standard error over samples."""
    found = []
    for seed in range(samples):
        psi, best = _sample(score, draws, n, seed)
        found.append(float((psi * psi).mean() * (best * best).mean() / (psi * best).mean() ** 2) - 1)
    return float(np.mean(found)), float(np.std(found, ddof=1) / math.sqrt(samples))


def test_information() -> None:
    n = 20_000
    square = _sample(cross_fitted, iid(2), n, 0)[1].square()
    assert abs(float(square.mean()) - THEORY.information) < REACH * float(square.std()) / math.sqrt(n)


@pytest.mark.parametrize(("score", "draws"), [(cross_fitted, iid(64)), (two_sample, iid(64, groups=2))])
def test_independent_draws_cost_the_constant_whatever_their_groups(score: Score, draws: Draws) -> None:
    excess, error = _excess(score, draws, 10)
    # The next order is smaller by a factor of order 1 / K.
    assert abs(64 * excess - THEORY.draw_constant) < REACH * 64 * error + THEORY.draw_constant / 64


def test_nets_cost_what_stratified_means_do() -> None:
    excess, error = _excess(two_sample, sobol(32), 20)
    assert abs(excess - THEORY.net_excess(32)) < REACH * error
    assert excess < 0.2 * THEORY.draw_constant / 32


def test_quadratic_tends_to_its_limit() -> None:
    excess, error = _excess(quadratic, sobol(128), 10)
    assert abs(excess - THEORY.quadratic_limit) < REACH * error + THEORY.net_excess(128)
    assert error < 0.1 * THEORY.quadratic_limit


def test_bias_of_plug_in() -> None:
    n, n_draws = 30_000, 32
    psi, best = _sample(plug_in, iid(n_draws), n, 0)
    difference = (psi - best) * n_draws / THEORY.information
    error = float(difference.std()) / math.sqrt(n)
    assert abs(float(difference.mean()) - THEORY.plug_in_bias) < REACH * error + abs(THEORY.plug_in_bias) / 8
    assert THEORY.plug_in_bias < -REACH * error


@pytest.mark.parametrize("budget", [1e3, 1e5])
def test_best_draws_minimise_the_leading_mean_squared_error(budget: float) -> None:
    def error(n_draws: float) -> float:
        return THEORY.plug_in_bias**2 / n_draws**2 + n_draws / (THEORY.information * budget)

    found = minimize_scalar(error, bounds=(1, 1000), method="bounded", options={"xatol": 1e-8})
    assert THEORY.best_draws(budget) == pytest.approx(found.x, rel=1e-4)


@pytest.mark.parametrize("n_draws", [0, 1, 6, 7, 2**13])
def test_nets_of_other_sizes_are_refused(n_draws: int) -> None:
    with pytest.raises(ValueError, match=f"{n_draws} draws"):
        THEORY.net_excess(n_draws)
