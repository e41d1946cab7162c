r"""Least squares on random rectified features: the ridge path in closed form, down to the minimum-norm interpolant."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from simulations.designs.selection import Keep, Sample, Selection

__all__ = ["RandomFeatures"]

# Test points evaluated at once.
_CHUNK = 250


@dataclass(frozen=True)
class RandomFeatures:
    r"""A two-layer network whose first layer stays as it was drawn, so that its last layer solves a ridge problem.

    .. math:: \hat f(x) = h(x)^\top c_\lambda, \quad h_j(x) = m^{-1/2} (w_j^\top \tilde x)_+, \quad
              w_j \sim N(0, I / (d + 1)), \qquad
              c_\lambda = H^\top (H H^\top + \lambda \bar\kappa I)^{-1} y

    with :math:`\bar\kappa` the mean eigenvalue of :math:`H H^\top`. At :math:`\lambda = 0` the inverse is the
    pseudo-inverse, least squares for m < n and the interpolant of minimum norm for m >= n, whose error peaks at m = n.

    Attributes
    ----------
    penalties : tuple of float
        Values of :math:`\lambda` in decreasing order; the last is 0.

    References
    ----------
    Belkin, Hsu, Ma & Mandal (2019) Proceedings of the National Academy of Sciences 116, 15849-15854; Nakkiran,
    Venkat, Kakade & Ma (2021) International Conference on Learning Representations, on the best penalty.
    """

    penalties: tuple[float, ...] = (*(10.0 ** (1 - 0.5 * step) for step in range(17)), 0.0)

    def __post_init__(self) -> None:
        falling = all(a > b for a, b in zip(self.penalties, self.penalties[1:], strict=False))
        if not self.penalties or not falling or self.penalties[-1] != 0:
            raise ValueError(f"penalties are {self.penalties}; list them in decreasing order, ending with 0.")

    def fit(
        self, train: Sample, validation: Sample, test: Tensor, width: int, generators: list[torch.Generator], keep: Keep
    ) -> tuple[Tensor, Tensor]:
        """Fit the path and evaluate it at test points: arguments and results as in `NetworkPath.fit`.

        Raises
        ------
        ValueError
            If the width is not positive.
        """
        if width < 1:
            raise ValueError(f"width is {width}; use one feature or more.")
        (x, y), (held_x, held_y) = train, validation
        first = torch.stack([_directions(x.shape[-1], width, generator) for generator in generators]).to(x.device)
        design, held = _features(x, first), _features(held_x, first)
        values, vectors = torch.linalg.eigh(design @ design.mT)
        rank = min(width, x.shape[1])
        values, vectors = values[:, -rank:], vectors[..., -rank:]
        unit = values.mean(dim=1, keepdim=True) * rank / x.shape[1]
        rotated = (vectors.mT @ y[..., None])[..., 0]
        selection = Selection(keep)
        for penalty in self.penalties:
            dual = vectors @ (rotated / (values + penalty * unit))[..., None]
            last = (design.mT @ dual)[..., 0]
            selection.offer(((held @ last[..., None])[..., 0] - held_y).square().mean(dim=1), last)
        both = torch.stack([selection.chosen[0], last], dim=-1)
        points = test.to(x.device).split(_CHUNK)
        fitted = torch.cat([_features(part, first) @ both for part in points], dim=1)
        return fitted[..., 0], fitted[..., 1]


def _directions(inputs: int, width: int, generator: torch.Generator) -> Tensor:
    return torch.randn(inputs + 1, width, generator=generator, dtype=torch.float64) / (inputs + 1) ** 0.5


def _features(x: Tensor, first: Tensor) -> Tensor:
    """Evaluate the features (R, n, m) at inputs (R, n, d) or (n, d)."""
    return (x @ first[:, :-1] + first[:, -1:]).relu_() / first.shape[-1] ** 0.5
