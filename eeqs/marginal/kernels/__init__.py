"""Kernels p(y | e), one file each; `eeqs.marginal.protocols.Kernel` says what a kernel provides."""

from eeqs.marginal.kernels.quadratic import QuadraticSoftmax
from eeqs.marginal.kernels.softmax import Softmax

__all__ = ["QuadraticSoftmax", "Softmax"]
