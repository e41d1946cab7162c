"""Inference on a noise scale that may be zero: a one-sided test, and intervals that cover there."""

from eeqs.marginal.boundary.interval import ScaleInterval, scale_interval
from eeqs.marginal.boundary.one_sided import scale_test

__all__ = ["ScaleInterval", "scale_interval", "scale_test"]
