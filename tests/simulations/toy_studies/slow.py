"""The toy study with a pause in every batch, so that there is time to kill it."""

import os

from toy_studies.exponential import Exponential

STUDY = Exponential(name="slow", pause=float(os.environ.get("TOY_PAUSE", "0.05")))
