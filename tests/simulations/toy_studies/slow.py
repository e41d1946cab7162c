"""The toy study with a pause in every batch, so that there is time to kill it."""

from toy_studies.exponential import Exponential

STUDY = Exponential(name="slow", pause=0.05)
