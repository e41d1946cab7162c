"""Generalised method of moments: more estimating equations than parameters."""

from eeqs.engine.gmm.estimation import GMMEstimate, gmm
from eeqs.engine.gmm.methods import ContinuouslyUpdated, Iterated, Method, OneStep, TwoStep

__all__ = ["ContinuouslyUpdated", "GMMEstimate", "Iterated", "Method", "OneStep", "TwoStep", "gmm"]
