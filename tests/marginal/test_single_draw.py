"""A single draw inside the logarithm pulls a noise scale down, but only some kernels let it fall to zero."""

import math

import pytest
import torch

from eeqs.marginal import single_draw
from simulations.designs.frozen_kernel import FrozenKernel

# A kernel met in the search for the design of the study rates, where the root is biased and positive.
STOPS = FrozenKernel(
    weight=(0.0, -1.0, 0.75, 0.3, -1.05, -0.4),
    square_weight=(0.0, -1.65, -1.1, 2.75, -0.05, 2.9),
    truth=math.log(0.8),
)
# Standard errors beyond which a sign is certain: a false one has probability 3e-7.
CERTAIN = 5


def z_of_mean_psi(design, shift):
    """Mean of psi in standard errors, at the truth plus ``shift``; negative pulls the log-scale down."""
    data = design.sample(50_000, 8, torch.Generator().manual_seed(1))
    values = design.model().psi(single_draw, draws=8)(torch.tensor([design.truth + shift], dtype=torch.float64), data)
    return float(values.mean() / values.std() * len(values) ** 0.5)


@pytest.mark.parametrize("design", [FrozenKernel(), STOPS])
def test_at_the_truth_the_scale_is_pulled_down(design):
    assert z_of_mean_psi(design, 0.0) < -CERTAIN


@pytest.mark.parametrize("shift", [-1.0, -2.0, -3.0])
def test_in_the_study_it_is_pulled_down_at_every_scale(shift):
    assert z_of_mean_psi(FrozenKernel(), shift) < -CERTAIN


def test_another_kernel_stops_it_at_a_positive_scale():
    """Mean psi changes sign between the truth and a seventh of it, so there is a biased root in between."""
    assert z_of_mean_psi(STOPS, -2.0) > CERTAIN
