"""Perturbation families, one file each; `eeqs.marginal.protocols.Perturbation` says what a family provides."""

from eeqs.marginal.perturbations.affine import Affine
from eeqs.marginal.perturbations.contextual import Contextual
from eeqs.marginal.perturbations.dropout import Dropout
from eeqs.marginal.perturbations.flow import Flow
from eeqs.marginal.perturbations.gaussian import Gaussian
from eeqs.marginal.perturbations.hull import Hull
from eeqs.marginal.perturbations.identity import Identity
from eeqs.marginal.perturbations.log_linear import LogLinear
from eeqs.marginal.perturbations.low_rank import LowRank
from eeqs.marginal.perturbations.neftune import NEFTune
from eeqs.marginal.perturbations.per_token import PerToken
from eeqs.marginal.perturbations.pushforward import Pushforward
from eeqs.marginal.perturbations.rotation import Rotation
from eeqs.marginal.perturbations.uniform_ball import UniformBall

__all__ = [
    "Affine",
    "Contextual",
    "Dropout",
    "Flow",
    "Gaussian",
    "Hull",
    "Identity",
    "LogLinear",
    "LowRank",
    "NEFTune",
    "PerToken",
    "Pushforward",
    "Rotation",
    "UniformBall",
]
