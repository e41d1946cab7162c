"""Kernels p(y | e), one file each; `eeqs.marginal.protocols.Kernel` says what a kernel provides."""

from eeqs.marginal.kernels.gaussian_response import GaussianResponse
from eeqs.marginal.kernels.linear_gaussian import LinearGaussian
from eeqs.marginal.kernels.mlp import MLP
from eeqs.marginal.kernels.ordered import Ordered
from eeqs.marginal.kernels.poisson import Poisson
from eeqs.marginal.kernels.quadratic import QuadraticSoftmax
from eeqs.marginal.kernels.softmax import Softmax

__all__ = ["MLP", "GaussianResponse", "LinearGaussian", "Ordered", "Poisson", "QuadraticSoftmax", "Softmax"]
