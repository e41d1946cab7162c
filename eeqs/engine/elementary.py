"""Operations whose second derivative in forward mode is wrong in PyTorch, made from others whose is right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

__all__ = ["Elementary", "layer_norm"]


class Elementary(TorchFunctionMode):
    """A context for what is differentiated in forward mode twice, as the psi of a loss is for its bread.

    In PyTorch 2.11 to 2.13 a forward derivative of a forward derivative takes some intermediate results of the
    functions below for constants and returns another number without a word; forward over reverse is right. Inside the
    context they are computed from matrix inverse, QR and elementary operations, of which it is right.

    Notes
    -----
    torch.cholesky_inverse is not among them: its derivative is wrong in every mode off the triangular matrices.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Let every other function pass."""
        del types
        return _REPLACED.get(func, func)(*args, **(kwargs or {}))


def layer_norm(
    input: Tensor,  # noqa: A002 - the name of the function it stands for
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Compute `torch.nn.functional.layer_norm` from its definition."""
    axes = tuple(range(-len(tuple(normalized_shape)), 0))
    centred = input - input.mean(dim=axes, keepdim=True)
    result = centred * torch.rsqrt(centred.square().mean(dim=axes, keepdim=True) + eps)
    result = result if weight is None else result * weight
    return result if bias is None else result + bias


def _solve(A: Tensor, B: Tensor, *, left: bool = True, out: None = None) -> Tensor:
    del out
    inverse = torch.linalg.inv(A)
    if not left:
        return B @ inverse
    vectors = B.ndim == 1 or (B.ndim == A.ndim - 1 and B.shape == A.shape[:-1])
    return (inverse @ B[..., None])[..., 0] if vectors else inverse @ B


def _slogdet(A: Tensor) -> tuple[Tensor, Tensor]:
    diagonal = torch.linalg.qr(A)[1].diagonal(dim1=-2, dim2=-1)
    return torch.linalg.slogdet(A.detach())[0], diagonal.abs().log().sum(dim=-1)


def _det(A: Tensor) -> Tensor:
    sign, logarithm = _slogdet(A)
    return sign * logarithm.exp()


def _logdet(A: Tensor) -> Tensor:
    sign, logarithm = _slogdet(A)
    # As torch does: NaN for a negative determinant.
    return torch.where(sign > 0, logarithm, torch.full_like(logarithm, torch.nan))


_REPLACED: dict[Callable[..., Any], Callable[..., Any]] = {
    functional.layer_norm: layer_norm,
    torch.linalg.solve: _solve,
    **dict.fromkeys((torch.linalg.slogdet, torch.slogdet, Tensor.slogdet), _slogdet),
    **dict.fromkeys((torch.linalg.det, torch.det, Tensor.det), _det),
    **dict.fromkeys((torch.logdet, Tensor.logdet), _logdet),
}
