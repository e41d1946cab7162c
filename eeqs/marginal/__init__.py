"""Models whose likelihood is an average over a latent perturbation, and the scores that estimate them."""

from eeqs.marginal.draws import Draws, antithetic, iid, shifted_grid, sobol
from eeqs.marginal.kernels import QuadraticSoftmax, Softmax
from eeqs.marginal.laws import (
    LOG_EXPONENTIAL,
    LOGISTIC,
    RADEMACHER,
    STANDARD_NORMAL,
    UNIFORM,
    LatentLaw,
    gauss_hermite,
)
from eeqs.marginal.model import Marginal
from eeqs.marginal.perturbations import (
    Affine,
    Contextual,
    Dropout,
    Flow,
    Gaussian,
    Hull,
    Identity,
    LogLinear,
    LowRank,
    NEFTune,
    PerToken,
    Pushforward,
    Rotation,
    UniformBall,
)
from eeqs.marginal.protocols import Kernel, Perturbation
from eeqs.marginal.scores import Score, cross_fitted, energy, exact, plug_in, quadratic, single_draw, two_sample

__all__ = [
    "LOGISTIC",
    "LOG_EXPONENTIAL",
    "RADEMACHER",
    "STANDARD_NORMAL",
    "UNIFORM",
    "Affine",
    "Contextual",
    "Draws",
    "Dropout",
    "Flow",
    "Gaussian",
    "Hull",
    "Identity",
    "Kernel",
    "LatentLaw",
    "LogLinear",
    "LowRank",
    "Marginal",
    "NEFTune",
    "PerToken",
    "Perturbation",
    "Pushforward",
    "QuadraticSoftmax",
    "Rotation",
    "Score",
    "Softmax",
    "UniformBall",
    "antithetic",
    "cross_fitted",
    "energy",
    "exact",
    "gauss_hermite",
    "iid",
    "plug_in",
    "quadratic",
    "shifted_grid",
    "single_draw",
    "sobol",
    "two_sample",
]
