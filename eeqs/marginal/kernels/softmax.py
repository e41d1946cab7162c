"""Multinomial logit, the output layer of a language model."""

from __future__ import annotations

from torch import Tensor, nn

from eeqs.marginal.layout import linear, log_normalise

__all__ = ["Softmax", "class_bias"]


class Softmax(nn.Module):
    r"""Linear logits, :math:`p(y = v \mid e) \propto \exp(w_v^\top e + b_v)`.

    Parameters
    ----------
    weight : Tensor of shape (V, d)
    bias : Tensor of shape (V,), optional
        No bias by default.

    Raises
    ------
    ValueError
        If the shapes do not agree.

    Notes
    -----
    The logits are identified up to a constant over classes. Freeze the kernel with ``requires_grad_(False)``; only
    learnable parameters enter theta.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        if weight.ndim != 2:
            raise ValueError(f"weight has shape {tuple(weight.shape)}; pass (V, d).")
        self.n_classes, self.dim = weight.shape
        self.weight = nn.Parameter(weight.detach().clone())
        self.bias = class_bias(bias, self.n_classes)

    def forward(self, e: Tensor) -> Tensor:
        """Log-probabilities (..., V) at embeddings ``e`` (..., d)."""
        logits = linear(e, self.weight)
        return log_normalise(logits if self.bias is None else logits + self.bias)


def class_bias(bias: Tensor | None, n_classes: int) -> nn.Parameter | None:
    """Parameter of one bias a class, or None; raise ValueError on another shape."""
    if bias is not None and bias.shape != (n_classes,):
        raise ValueError(f"bias has shape {tuple(bias.shape)}; pass ({n_classes},), one a class.")
    return None if bias is None else nn.Parameter(bias.detach().clone())
