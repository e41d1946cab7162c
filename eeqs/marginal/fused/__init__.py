"""The cross-fitted loss straight from logits, with its gradient in closed form."""

from eeqs.marginal.fused.loss import cross_fitted_loss

__all__ = ["cross_fitted_loss"]
