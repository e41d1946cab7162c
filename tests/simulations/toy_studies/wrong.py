"""The toy study with a prediction that is wrong."""

from toy_studies.exponential import Exponential

STUDY = Exponential(name="wrong", predicted=-1.0)
