r"""Instrumental variables: residual times instruments, just- or over-identified.

The design is (Intercept, x, exogenous), the instruments are (Intercept, instruments, exogenous), and the equations
come in that order. Whether instruments are strong is a test on the first stage,
``eeqs.estimate(least_squares("x", ["z1", "z2", ...]), data, cov="HC1").wald(["z1", "z2"])``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from eeqs.engine.data import Leaves
from eeqs.engine.errors import DataError
from eeqs.engine.moments.design import regression_columns, regression_names, stack_regression, weighted
from eeqs.engine.moments.regression import log_mean_start, zero_start
from eeqs.engine.psi import EstimatingFunction, from_linear_index

__all__ = ["exponential_iv", "iv", "two_stage_least_squares"]

# Response (n,), design (n, p) and instruments (n, q).
Instrumented: TypeAlias = tuple[Tensor, Tensor, Tensor]


def iv(
    y: str,
    x: Sequence[str],
    instruments: Sequence[str],
    *,
    exogenous: Sequence[str] = (),
    intercept: bool = True,
    offset: str | None = None,
    weights: str | None = None,
) -> EstimatingFunction:
    r"""Linear regression with instruments: :math:`\psi_i = (y_i - o_i - x_i^\top \beta)\, z_i`.

    Parameters
    ----------
    y : str
        Response column.
    x : sequence of str
        Endogenous regressors.
    instruments : sequence of str
        Excluded instruments, at least as many as endogenous regressors. As many: `eeqs.estimate`. More: `eeqs.gmm`,
        whose ``OneStep()`` is two-stage least squares and whose default is efficient under heteroskedasticity.
    exogenous : sequence of str
        Regressors that are their own instruments.
    intercept : bool
        Put a constant, named ``Intercept``, first among both.
    offset : str, optional
        Column subtracted from y.
    weights : str, optional
        Column of probability, analytic or importance weights; see `eeqs.weight`.

    Raises
    ------
    DataError
        If there are fewer instruments than endogenous regressors, or a column is named twice.

    References
    ----------
    Wooldridge (2010) Econometric Analysis of Cross Section and Panel Data, ch. 5 and 8.
    """
    _check(x, instruments, exogenous)
    psi = from_linear_index(
        lambda index, data: data[0] - index,
        lambda data: data[1],
        instruments=lambda data: data[2],
        slope=lambda index, _: torch.full_like(index, -1.0),
        names=regression_names((*x, *exogenous), intercept),
        columns=regression_columns(y, (*x, *exogenous, *instruments), offset),
        prepare=lambda leaves: _less_offset(leaves, y, x, instruments, exogenous, intercept, offset),
        start=zero_start,
    )
    return weighted(psi, weights)


def exponential_iv(
    y: str,
    x: Sequence[str],
    instruments: Sequence[str],
    *,
    exogenous: Sequence[str] = (),
    intercept: bool = True,
    offset: str | None = None,
    weights: str | None = None,
) -> EstimatingFunction:
    r"""Exponential mean with multiplicative errors: :math:`\psi_i = (y_i\, e^{-x_i^\top \beta - o_i} - 1)\, z_i`.

    Parameters
    ----------
    y : str
        Response column, non-negative.
    x, instruments, exogenous, intercept, weights
        As in `iv`.
    offset : str, optional
        Column added to the index, such as the logarithm of an exposure.

    Raises
    ------
    DataError
        As in `iv`, and when solved on a negative response, or one that is zero throughout.

    References
    ----------
    Mullahy (1997) Review of Economics and Statistics 79; Windmeijer & Santos Silva (1997) J. Applied Econometrics 12.
    """
    _check(x, instruments, exogenous)

    def prepare(leaves: Leaves) -> Instrumented:
        response, design, z, *shift = _instrumented(leaves, y, x, instruments, exogenous, intercept, offset)
        if bool((response < 0).any()) or bool((response == 0).all(dim=-1).any()):
            raise DataError(f'response "{y}" has negative values or is zero throughout; its mean is to be positive.')
        return (response * torch.exp(-shift[0]) if shift else response), design, z

    psi = from_linear_index(
        lambda index, data: data[0] * torch.exp(-index) - 1,
        lambda data: data[1],
        instruments=lambda data: data[2],
        slope=lambda index, data: -data[0] * torch.exp(-index),
        names=regression_names((*x, *exogenous), intercept),
        columns=regression_columns(y, (*x, *exogenous, *instruments), offset),
        prepare=prepare,
        start=lambda data: log_mean_start(data[:2]),
    )
    return weighted(psi, weights)


def two_stage_least_squares(
    y: str,
    x: Sequence[str],
    instruments: Sequence[str],
    *,
    exogenous: Sequence[str] = (),
    intercept: bool = True,
    offset: str | None = None,
    weights: str | None = None,
    expected_bread: bool = True,
) -> EstimatingFunction:
    r"""Two-stage least squares as just-identified equations, one block a stage:

    .. math:: \psi_i = \big( (y_i - o_i - x_i^\top \beta)\, \hat x_i,\ (x_{ia} - z_i^\top \gamma_a)\, z_i \big),

    with :math:`\hat x_i` the design whose endogenous columns a are replaced by :math:`z_i^\top \gamma_a`.

    Parameters
    ----------
    y, x, instruments, exogenous, intercept, offset, weights
        As in `iv`. Parameters are those of `iv` and then the first stages, named ``x on z``.
    expected_bread : bool
        Whether the derivative along :math:`\gamma` of the second stage, :math:`n^{-1} \sum_i e_i z_i`, is taken at its
        expectation under valid instruments, zero, as the usual standard errors do. With False it is that of the sample,
        and standard errors remain valid when instruments identify different effects (Lee 2018); just-identified, the
        two agree.

    Raises
    ------
    DataError
        As in `iv`.

    References
    ----------
    White (1982) Econometrica 50, p. 483; Lee (2018) Journal of Business & Economic Statistics 36.
    """  # noqa: D400 - the formula belongs to the summary
    _check(x, instruments, exogenous)
    names = regression_names((*x, *exogenous), intercept)
    known = regression_names((*instruments, *exogenous), intercept)
    p, endogenous = len(names), slice(int(intercept), int(intercept) + len(x))

    def psi(theta: Tensor, data: Instrumented) -> Tensor:
        response, design, z = data
        gamma = theta[p:].reshape(len(x), len(known))
        fitted = z @ (gamma.detach() if expected_bread else gamma).mT
        regressors = torch.cat([design[:, : endogenous.start], fitted, design[:, endogenous.stop :]], dim=1)
        error = design[:, endogenous] - z @ gamma.mT
        second = (response - design @ theta[:p])[:, None] * regressors
        return torch.cat([second, (error[:, :, None] * z[:, None, :]).flatten(1)], dim=1)

    def start(data: Instrumented) -> Tensor:
        _, design, z = data
        gamma = torch.linalg.lstsq(z, design[..., endogenous]).solution
        return torch.cat([torch.zeros_like(design[..., 0, :]), gamma.mT.flatten(-2)], dim=-1)

    function = EstimatingFunction(
        psi,
        (*names, *(f"{a} on {z}" for a in x for z in known)),
        regression_columns(y, (*x, *exogenous, *instruments), offset),
        lambda leaves: _less_offset(leaves, y, x, instruments, exogenous, intercept, offset),
        start,
    )
    return weighted(function, weights)


def _check(x: Sequence[str], instruments: Sequence[str], exogenous: Sequence[str]) -> None:
    for role, names in (("x", x), ("instruments", instruments), ("exogenous", exogenous)):
        if isinstance(names, str):
            raise DataError(f'{role} is the string "{names}"; pass a list of column names, such as ["{names}"].')
    every = [*x, *instruments, *exogenous]
    twice = [name for name in every if every.count(name) > 1]
    if twice:
        raise DataError(
            f'column "{twice[0]}" is named twice among regressors and instruments; name what is its own instrument '
            "under exogenous only."
        )
    if len(instruments) < len(x):
        raise DataError(
            f"{len(instruments)} instrument(s) {list(instruments)} cannot identify the coefficients of {len(x)} "
            f"endogenous regressor(s) {list(x)}; name at least as many."
        )


def _less_offset(
    leaves: Leaves,
    y: str,
    x: Sequence[str],
    instruments: Sequence[str],
    exogenous: Sequence[str],
    intercept: bool,
    offset: str | None,
) -> Instrumented:
    response, design, z, *shift = _instrumented(leaves, y, x, instruments, exogenous, intercept, offset)
    return (response - shift[0] if shift else response), design, z


def _instrumented(
    leaves: Leaves,
    y: str,
    x: Sequence[str],
    instruments: Sequence[str],
    exogenous: Sequence[str],
    intercept: bool,
    offset: str | None,
) -> tuple[Tensor, ...]:
    """Response, design, instruments and, where there is one, offset."""
    response, z = stack_regression(leaves, y, (*instruments, *exogenous), intercept)
    _, design, *shift = stack_regression(leaves, y, (*x, *exogenous), intercept, None, offset)
    return (response, design, z, *shift)
