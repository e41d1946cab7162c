"""Expectiles and expectile regression."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from eeqs.engine.moments.design import regression_columns, regression_names, stack_regression, weighted
from eeqs.engine.psi import EstimatingFunction, from_linear_index

__all__ = ["expectile"]


def expectile(
    y: str, tau: float = 0.5, x: Sequence[str] = (), *, intercept: bool = True, weights: str | None = None
) -> EstimatingFunction:
    r"""Expectile of a column, or expectile regression: :math:`\psi_i = |\tau - 1\{r_i < 0\}|\, r_i\, x_i`.

    Parameters
    ----------
    y : str
        Response column.
    tau : float
        Asymmetry in (0, 1); 0.5 is the mean.
    x : sequence of str
        Regressor columns; none for the expectile of ``y`` itself.
    intercept : bool
        Put a constant, named ``Intercept``, first.
    weights : str, optional
        Column of probability, analytic or importance weights; see `eeqs.weight`.

    Notes
    -----
    With :math:`r_i = y_i - x_i^\top \beta`, psi is continuous and has a kink where a residual is zero. Its mean is
    strictly monotone, so the root is exact, and its derivative off the kinks is the bread in the limit. Newton is
    iterated weighted least squares.

    Raises
    ------
    ValueError
        If tau is not inside (0, 1).

    References
    ----------
    Newey & Powell (1987) Econometrica 55.
    """
    if not 0 < tau < 1:
        raise ValueError(f"tau is {tau}; an expectile level lies strictly between 0 and 1.")

    def asymmetry(residual: Tensor) -> Tensor:
        return torch.where(residual < 0, 1 - tau, tau).to(residual.dtype)

    psi = from_linear_index(
        lambda index, data: asymmetry(data[0] - index) * (data[0] - index),
        lambda data: data[1],
        slope=lambda index, data: -asymmetry(data[0] - index),
        names=regression_names(x, intercept),
        columns=regression_columns(y, x),
        prepare=lambda leaves: stack_regression(leaves, y, x, intercept),
        start=lambda data: torch.zeros_like(data[1][..., 0, :]),
    )
    return weighted(psi, weights)
