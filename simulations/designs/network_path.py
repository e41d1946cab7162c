r"""Gradient descent on two-layer networks, a batch of replicates at once, stopped early by a validation sample."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from simulations.designs.selection import Keep, Sample, Selection

__all__ = ["NetworkPath"]

# Test points evaluated at once.
_CHUNK = 250


@dataclass(frozen=True)
class NetworkPath:
    r"""Both layers of a network of width m by full-batch gradient descent with momentum on the squared error.

    .. math:: \hat f(x) = \sqrt{2 / m} \sum_{j \le m} a_j \, (w_j^\top \tilde x)_+, \qquad \tilde x = (x, 1),
              \quad a_j \sim N(0, 1), \quad w_j \sim N(0, I / (d + 1))

    at the start. Units come in pairs with equal :math:`w_j` and opposite :math:`a_j`, so that the function starts at
    zero and its initial value adds no variance. The factor :math:`m^{-1/2}` lets one step size serve every width.

    Attributes
    ----------
    steps : int
        Updates of the path.
    rate, momentum : float
        Step size and heavy-ball momentum.
    check : int
        Updates between two looks at the validation error.

    References
    ----------
    Chizat, Oyallon & Bach (2019) Advances in Neural Information Processing Systems 32, the paired initial weights.
    """

    steps: int = 400
    rate: float = 0.5
    momentum: float = 0.9
    check: int = 2

    def fit(
        self, train: Sample, validation: Sample, test: Tensor, width: int, generators: list[torch.Generator], keep: Keep
    ) -> tuple[Tensor, Tensor]:
        """Fit networks and evaluate them at test points.

        Parameters
        ----------
        train, validation : tuple of Tensor
            Inputs (R, n, d) and responses (R, n).
        test : Tensor of shape (N, d)
        width : int
            m, even.
        generators : list of torch.Generator
            One a replicate, for the initial weights.
        keep : callable
            Rule of selection along the path, see `simulations.designs.selection.Keep`.

        Returns
        -------
        chosen, last : Tensor of shape (R, N)
            Fitted functions at the selected update and at the last one.

        Raises
        ------
        ValueError
            If the width is odd or not positive.
        """
        if width < 2 or width % 2:
            raise ValueError(f"width is {width}; units come in pairs, use an even number of at least 2.")
        (x, y), (held_x, held_y) = (_single(*sample) for sample in (train, validation))
        hidden, output = (part.to(x.device) for part in self._start(x.shape[-1], width, generators))
        speed = torch.zeros_like(hidden), torch.zeros_like(output)
        selection = Selection(keep)
        for step in range(self.steps + 1):
            if step:
                gradients = _gradient(x, y, hidden, output)
                for velocity, gradient in zip(speed, gradients, strict=True):
                    velocity.mul_(self.momentum).sub_(gradient, alpha=self.rate)
                hidden += speed[0]
                output += speed[1]
            if step % self.check == 0:
                error = (_evaluate(held_x, hidden, output) - held_y).square().mean(dim=1)
                selection.offer(error, hidden, output)
        points = _with_constant(test.float().to(x.device)).split(_CHUNK)
        chosen, last = (
            torch.cat([_evaluate(part, *fit) for part in points], dim=1) for fit in (selection.chosen, (hidden, output))
        )
        return chosen, last

    def _start(self, inputs: int, width: int, generators: list[torch.Generator]) -> tuple[Tensor, Tensor]:
        half = [torch.randn(inputs + 1, width // 2, generator=generator) for generator in generators]
        normals = torch.stack(half)
        hidden, output = normals[:, :-1] / inputs**0.5, normals[:, -1]
        return torch.cat([hidden, hidden], dim=-1), torch.cat([output, -output], dim=-1)


def _with_constant(x: Tensor) -> Tensor:
    return torch.cat([x, torch.ones_like(x[..., :1])], dim=-1)


def _single(x: Tensor, y: Tensor) -> Sample:
    return _with_constant(x.float()), y.float()


def _evaluate(x: Tensor, hidden: Tensor, output: Tensor) -> Tensor:
    """Evaluate networks with weights (R, d + 1, m) and (R, m) at inputs (R, n, d + 1) or (n, d + 1): (R, n)."""
    return ((x @ hidden).relu_() @ output[..., None])[..., 0] * (2 / output.shape[-1]) ** 0.5


def _gradient(x: Tensor, y: Tensor, hidden: Tensor, output: Tensor) -> tuple[Tensor, Tensor]:
    """Differentiate half the mean squared error in both layers."""
    factor = (2 / output.shape[-1]) ** 0.5
    units = (x @ hidden).relu_()
    residual = ((units @ output[..., None])[..., 0] * factor - y) * (factor / y.shape[-1])
    outer = (units.mT @ residual[..., None])[..., 0]
    inner = x.mT @ units.sign_().mul_(residual[..., None])
    return inner * output[:, None], outer
