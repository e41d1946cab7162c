"""The identifiability report: what it warns of, and its numbers against independent Monte Carlo.

Statistical bounds are four standard errors with fixed seeds: a false alarm has probability 6e-5 a comparison.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

import eeqs
from eeqs.marginal import (
    Draws,
    Gaussian,
    LogLinear,
    LowRank,
    Marginal,
    QuadraticSoftmax,
    Softmax,
    cross_fitted,
    energy,
    exact,
    iid,
    plug_in,
    sobol,
    two_sample,
)
from eeqs.marginal.identifiability import identifiability
from eeqs.marginal.identifiability.efficiency import confounding
from eeqs.marginal.identifiability.recommend import recommend
from eeqs.marginal.kernels import LinearGaussian


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def theory():
    """Two-dimensional design of a frozen kernel of six classes and noise that depends on the embedding."""
    kernel = QuadraticSoftmax(2 * normal(6, 2, seed=3), 0.15 * normal(6, 2, seed=2)).requires_grad_(False)
    noise = LogLinear(2, bias=[np.log(0.8), np.log(0.5)], weight=0.4, depends_on=[[True, False], [False, False]])
    return Marginal(noise, kernel)


def line():
    """One dimension, one scale, four classes, a frozen kernel."""
    kernel = QuadraticSoftmax(2 * normal(4, 1, seed=1), 0.5 * normal(4, 1, seed=2)).requires_grad_(False)
    return Marginal(Gaussian(1, log_scale=-0.5), kernel)


def report(model, score, n=80, **options):
    prefix = 1.2 * normal(n, model.perturbation.dim, seed=5)
    return identifiability(model, score, prefix, generator(1), **{"nodes": 8, "n_redraws": 3, "most": 8, **options})


def test_an_identified_design_gives_no_warning_and_a_recommendation_that_holds():
    found = report(theory(), two_sample, n=120, draws=sobol(8), target=0.85, most=64)
    assert found.warnings == ()
    assert found.condition < 20
    assert found.unidentified == ()
    advice = found.recommendation
    again = report(theory(), two_sample, n=120, draws=advice.draws, most=len(advice.draws)).table.loc[
        list(theory().names)
    ]
    assert (again["efficiency"] > 0.85 - 4 * again["efficiency_error"]).all()
    # Half the draws miss the target: the recommendation is no larger than needed.
    half = advice.points[len(advice.draws) // 2]
    assert half[0] < 0.85 + 2 * half[1]


def test_efficiencies_agree_with_a_ratio_of_simulated_sandwiches():
    model, prefix = line(), 1.2 * normal(200, 1, seed=5)
    found = report(model, cross_fitted, n=200, draws=6)
    ratios = []
    for seed in range(20):
        data = model.sample(prefix.repeat(10, 1), 6, generator(100 + seed))
        variances = []
        for psi in (model.psi(exact(10)), model.psi(cross_fitted, draws=6)):
            bread, meat = eeqs.bread(psi, model.theta, data), eeqs.meat(psi, model.theta, data)
            variances.append(float(meat / bread**2))
        ratios.append(variances[0] / variances[1])
    error = np.hypot(np.std(ratios, ddof=1) / np.sqrt(20), found.table["efficiency_error"].iloc[0])
    assert abs(np.mean(ratios) - found.table["efficiency"].iloc[0]) < 4 * error
    assert error < 0.07


def test_the_worst_direction_and_singular_values_are_those_of_the_equilibrated_bread():
    found = report(theory(), exact(8))
    assert found.singular_values.is_monotonic_decreasing
    assert found.condition == pytest.approx(found.singular_values.iloc[0] / found.singular_values.iloc[-1])
    assert np.linalg.norm(found.worst_direction) == pytest.approx(1)
    np.testing.assert_allclose(found.table["efficiency"], 1)  # the exact score against itself
    assert found.recommendation is None
    assert found.table["simulation"].isna().all()


def test_free_weights_with_a_free_scale_are_confounded_and_named():
    kernel = Softmax(normal(3, 2, seed=3), torch.zeros(3, dtype=torch.float64))
    found = report(Marginal(Gaussian(2, log_scale=-0.5), kernel), exact(5), n=240, nodes=5)
    confounded = next(text for text in found.warnings if "confounded" in text)
    assert "log_scale" in confounded
    assert "kernel.weight[" in confounded
    singular = next(text for text in found.warnings if "singular" in text)
    assert "log_scale" not in singular  # only the shifts common to all classes are exactly unidentified
    assert "kernel.bias[0]" in singular
    assert found.condition == float("inf")
    assert found.table["efficiency"].notna().loc["log_scale"]
    assert found.table["efficiency"].isna().loc["kernel.bias[0]"]
    frozen = Marginal(Gaussian(2, log_scale=-0.5), kernel.requires_grad_(False))
    assert report(frozen, exact(5), nodes=5).warnings == ()


def test_confounding_is_the_share_left_by_a_partial_regression():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(400, 4)) @ rng.normal(size=(4, 4))
    own = torch.tensor([True, False, False, False])
    share, direction = confounding(torch.from_numpy(-rows.T @ rows), own)
    coefficients, squares = np.linalg.lstsq(rows[:, 1:], rows[:, 0], rcond=None)[:2]
    assert share == pytest.approx(float(squares[0]) / (rows[:, 0] @ rows[:, 0]))
    np.testing.assert_allclose(direction[1:] / direction[0], -coefficients)


def test_two_draws_are_called_too_few_for_a_scale():
    found = report(line(), cross_fitted, draws=2, most=4)
    assert any("single draw" in text and "log_scale" in text for text in found.warnings)
    assert found.table["efficiency"].iloc[0] < 0.2


def test_a_biased_score_gets_no_efficiency():
    found = report(line(), plug_in, draws=4)
    assert any("plug_in is biased" in text for text in found.warnings)
    assert found.table["efficiency"].isna().all()
    assert found.recommendation is None


def test_a_score_wrongly_declared_unbiased_is_found():
    found = report(line(), replace(plug_in, name="planted", unbiased=True), draws=2, n=600)
    assert any("mean of psi of planted is not zero" in text for text in found.warnings)


def test_a_bread_without_the_derivative_of_the_frozen_copy_is_found():
    def detached(live, frozen, y, log_weight):
        return cross_fitted.loss(live, frozen.detach(), y, log_weight)

    planted = replace(cross_fitted, name="planted", loss=detached)
    assert any("misses a derivative" in text for text in report(line(), planted, draws=8).warnings)
    assert report(line(), cross_fitted, draws=8).warnings == ()


def test_beyond_three_latent_dimensions_the_reference_is_said_to_be_simulated():
    model = Marginal(LowRank(0.4 * normal(1, 4, seed=4)), line().kernel)
    found = report(model, cross_fitted, draws=4, most=4, n=120)
    assert found.reference.startswith("two_sample with 256 Sobol draws")


def test_a_score_that_jumps_takes_its_bread_from_the_exact_one():
    model = Marginal(Gaussian(1, log_scale=-0.5), LinearGaussian(torch.ones(1), log_scale=-1.0).requires_grad_(False))
    found = report(model, energy, n=60, draws=4, most=4)
    assert 0 < found.table["efficiency"].iloc[0] < 1
    assert found.warnings == ()


def synthetic(draws):
    """Efficiency that follows 1 / e = 1 + 4 / K exactly."""
    return 1 / (1 + 4 / len(draws)), 1e-4


@pytest.mark.parametrize(("start", "score"), [(iid(4), cross_fitted), (iid(40), cross_fitted), (sobol(4), two_sample)])
def test_the_recommendation_solves_a_known_curve(start, score):
    advice = recommend(synthetic, start, score, 0.9, 256)
    # 1 + 4 / K = 1 / 0.9 at K = 36; groups of a net double.
    assert len(advice.draws) == (36 if start.size == 1 else 64)
    assert advice.rate == pytest.approx(1)
    assert advice.low < 36.1
    assert advice.high > 35.9


def test_an_efficiency_with_a_ceiling_gets_no_recommendation():
    advice = recommend(lambda draws: (0.5 - 1 / len(draws), 0.01), iid(4), cross_fitted, 0.9, 256)
    assert advice.draws is None
    assert "no number of draws" in str(advice)


def test_the_report_is_readable():
    found = report(line(), cross_fitted, draws=8, most=16)
    text = str(found)
    for part in ("singular values", "worst identified direction", "log_scale", "efficiency against", "recommended"):
        assert part in text
    assert list(found.to_frame().index) == ["log_scale", "worst direction"]
    assert 0 < found.table["simulation"].iloc[0] < 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": 1.0}, "target is 1.0"),
        ({"n": 30}, "30 observations are too few"),
        ({"most": 3}, "most is 3"),
        ({"draws": 1}, "independent groups"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        report(line(), cross_fitted, **{"draws": 4, **options})


def test_draws_of_a_scheme_of_ones_own_grow_by_groups():
    own = Draws(2, 3, lambda sets, size, dim, g, device: torch.rand(sets, size, dim, generator=g, device=device), "own")
    advice = recommend(synthetic, replace(own, groups=4), cross_fitted, 0.9, 256)
    assert advice.draws.size == 3
    assert len(advice.draws) == 36
