"""Unbiased scores pass `eeqs.check_unbiased` and biased ones do not, over scores, draws and seeds."""

from functools import partial

import pytest
from scipy.stats import binom

import eeqs
from eeqs.marginal import cross_fitted, plug_in, quadratic, single_draw
from simulations.designs.frozen_kernel import FrozenKernel

DESIGN = FrozenKernel()
DRAWS, SEEDS, LEVEL, N = (2, 4, 8), 20, 0.002, 20_000
VERDICTS = 2 * len(DRAWS) * SEEDS
# A side gives 2 scores x 3 numbers of draws x 20 seeds = 120 verdicts, all from different seeds and so independent.
# A true psi is rejected with probability 0.002, so the number of false rejections is Binomial(120, 0.002): 0.24 are
# expected, and more than 2 (one in 60) have probability 0.002. Of the biased lines plug_in at K = 8 is the closest to
# zero: its mean is about 9 standard errors away and the critical value 3.3, so a false pass has probability below 1e-7.
ALLOWED = VERDICTS // 60


def passes(scores):
    """How many of the verdicts of two scores are "unbiased"."""
    lines = [(score, n_draws) for score in scores for n_draws in DRAWS]
    count = 0
    for line, (score, n_draws) in enumerate(lines):
        model = DESIGN.model()
        psi, simulate = model.psi(score, draws=n_draws), partial(_simulate, n_draws)
        for seed in range(SEEDS):
            report = eeqs.check_unbiased(psi, model.theta, simulate, N, level=LEVEL, seed=SEEDS * line + seed)
            count += report.passed
    return count


def _simulate(n_draws, n, generator):
    return DESIGN.sample(n, n_draws, generator)


def test_the_allowance_is_the_binomial_one():
    assert (VERDICTS, ALLOWED) == (120, 2)
    assert binom.sf(ALLOWED, VERDICTS, LEVEL) < 0.0025 < binom.sf(ALLOWED - 1, VERDICTS, LEVEL)


def test_quadratic_and_cross_fitted_pass():
    assert VERDICTS - passes([quadratic, cross_fitted]) <= ALLOWED


def test_plug_in_and_single_draw_are_rejected():
    assert passes([plug_in, single_draw]) <= ALLOWED


@pytest.mark.parametrize("shift", [-0.2, 0.2])
def test_unbiased_scores_are_rejected_away_from_the_truth(shift):
    for score in (quadratic, cross_fitted):
        model = DESIGN.model()
        psi = model.psi(score, draws=8)
        assert not eeqs.check_unbiased(psi, model.theta + shift, partial(_simulate, 8), N, level=LEVEL).passed
