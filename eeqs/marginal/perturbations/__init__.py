"""Perturbation families, one file each; `eeqs.marginal.protocols.Perturbation` says what a family provides."""

from eeqs.marginal.perturbations.contextual import Contextual
from eeqs.marginal.perturbations.gaussian import Gaussian
from eeqs.marginal.perturbations.identity import Identity

__all__ = ["Contextual", "Gaussian", "Identity"]
