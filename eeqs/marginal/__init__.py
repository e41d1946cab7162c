"""Models whose likelihood is an average over a latent perturbation, and the scores that estimate them."""

from eeqs.marginal.draws import Draws, antithetic, iid, shifted_grid, sobol
from eeqs.marginal.kernels import QuadraticSoftmax, Softmax
from eeqs.marginal.laws import STANDARD_NORMAL, LatentLaw, gauss_hermite
from eeqs.marginal.model import Marginal
from eeqs.marginal.perturbations import Contextual, Gaussian, Identity
from eeqs.marginal.protocols import Kernel, Perturbation
from eeqs.marginal.scores import Score, cross_fitted, exact, plug_in, quadratic, single_draw, two_sample

__all__ = [
    "STANDARD_NORMAL",
    "Contextual",
    "Draws",
    "Gaussian",
    "Identity",
    "Kernel",
    "LatentLaw",
    "Marginal",
    "Perturbation",
    "QuadraticSoftmax",
    "Score",
    "Softmax",
    "antithetic",
    "cross_fitted",
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
