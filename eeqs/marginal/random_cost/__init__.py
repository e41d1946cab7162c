"""Scores that make a random number of draws themselves, and are unbiased at every parameter."""

from eeqs.marginal.random_cost.randomised_level import multilevel
from eeqs.marginal.random_cost.rejection import posterior, posterior_information
from eeqs.marginal.random_cost.score import RandomCostScore

__all__ = ["RandomCostScore", "multilevel", "posterior", "posterior_information"]
