"""Models whose likelihood is an average over a latent perturbation, and the scores that estimate them."""

from eeqs.marginal.draws import STANDARD_NORMAL, LatentLaw, gauss_hermite, iid
from eeqs.marginal.kernels import QuadraticSoftmax, Softmax
from eeqs.marginal.model import Marginal
from eeqs.marginal.perturbations import Contextual, Gaussian, Identity
from eeqs.marginal.protocols import Kernel, Perturbation
from eeqs.marginal.scores import Score, cross_fitted, exact, plug_in, quadratic, single_draw

__all__ = [
    "STANDARD_NORMAL",
    "Contextual",
    "Gaussian",
    "Identity",
    "Kernel",
    "LatentLaw",
    "Marginal",
    "Perturbation",
    "QuadraticSoftmax",
    "Score",
    "Softmax",
    "cross_fitted",
    "exact",
    "gauss_hermite",
    "iid",
    "plug_in",
    "quadratic",
    "single_draw",
]
