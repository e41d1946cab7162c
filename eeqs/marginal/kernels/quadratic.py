"""Softmax of logits quadratic in the embedding, whose curvature identifies a noise scale."""

from __future__ import annotations

from torch import Tensor, nn

from eeqs.marginal.kernels.softmax import class_bias
from eeqs.marginal.layout import linear, log_normalise

__all__ = ["QuadraticSoftmax"]


class QuadraticSoftmax(nn.Module):
    r"""Quadratic logits, :math:`p(y = v \mid e) \propto \exp(w_v^\top e + q_v^\top (e \odot e) + b_v)`.

    Parameters
    ----------
    weight, square_weight : Tensor of shape (V, d)
        The rows :math:`w_v` and :math:`q_v`.
    bias : Tensor of shape (V,), optional
        No bias by default.

    Raises
    ------
    ValueError
        If the shapes do not agree.

    Notes
    -----
    A softmax of linear logits smoothed by Gaussian noise is nearly another softmax, so with a free kernel the noise
    scale is barely identified; the quadratic terms, or a frozen kernel, identify it.
    """

    def __init__(self, weight: Tensor, square_weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        if weight.ndim != 2 or square_weight.shape != weight.shape:
            raise ValueError(
                f"weight has shape {tuple(weight.shape)} and square_weight {tuple(square_weight.shape)}; "
                "pass (V, d) for both."
            )
        self.n_classes, self.dim = weight.shape
        self.weight = nn.Parameter(weight.detach().clone())
        self.square_weight = nn.Parameter(square_weight.detach().clone())
        self.bias = class_bias(bias, self.n_classes)

    def forward(self, e: Tensor) -> Tensor:
        """Log-probabilities (..., V) at embeddings ``e`` (..., d)."""
        logits = linear(e, self.weight) + linear(e * e, self.square_weight)
        return log_normalise(logits if self.bias is None else logits + self.bias)
