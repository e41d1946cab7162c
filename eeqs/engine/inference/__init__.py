"""From a root to conclusions: intervals, tests, functionals, influence, contrasts, tables, files and plots."""

from eeqs.engine.inference.bands import Band
from eeqs.engine.inference.coefficients import Coefficients, DerivedEstimate
from eeqs.engine.inference.contrasts import contrast
from eeqs.engine.inference.distance import distance_test
from eeqs.engine.inference.estimation import estimate
from eeqs.engine.inference.hypothesis import HypothesisTest
from eeqs.engine.inference.influence import LeaveOneOut
from eeqs.engine.inference.persist import load
from eeqs.engine.inference.profiles import Profile, profile
from eeqs.engine.inference.result import Estimate
from eeqs.engine.inference.score import score_test
from eeqs.engine.inference.table import Summary

__all__ = [
    "Band",
    "Coefficients",
    "DerivedEstimate",
    "Estimate",
    "HypothesisTest",
    "LeaveOneOut",
    "Profile",
    "Summary",
    "contrast",
    "distance_test",
    "estimate",
    "load",
    "profile",
    "score_test",
]
