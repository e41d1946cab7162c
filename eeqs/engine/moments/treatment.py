r"""Average treatment effects of a binary treatment: weighting, regression adjustment, and both.

Under no unmeasured confounding given x and overlap :math:`0 < P(a = 1 | x) < 1`, the parameters are
:math:`\mathrm{ATE} = E[y(1)] - E[y(0)]` and ``POmean0`` :math:`\mu_0 = E[y(0)]`, followed by those of the nuisance
models. All are solved as one stacked equation, so the standard errors account for the estimated nuisance models
(Lunceford & Davidian 2004); they are those of Stata's ``teffects``.

With :math:`p_i` the fitted probability of treatment and :math:`\hat y_{ik}` the prediction of the outcome model of arm
k, the weights are :math:`w_{i1} = a_i / p_i` and :math:`w_{i0} = (1 - a_i) / (1 - p_i)`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor

from eeqs.engine.errors import DataError
from eeqs.engine.linear_index import LinearIndex
from eeqs.engine.moments.regression import least_squares, logit, poisson, probit
from eeqs.engine.psi import EstimatingFunction, from_linear_index
from eeqs.engine.stack import stack

__all__ = ["aipw", "ipw", "regression_adjustment"]

Factory: TypeAlias = Callable[..., EstimatingFunction]
Mean: TypeAlias = Callable[[Tensor], Tensor]

# The mean of the response as a function of the linear index, by model.
_PROPENSITIES: Mapping[Factory, Mean] = {logit: torch.sigmoid, probit: torch.special.ndtr}
_OUTCOMES: Mapping[Factory, Mean] = {**_PROPENSITIES, least_squares: lambda index: index, poisson: torch.exp}
# Distance of a propensity from 0 or 1 at which there is no overlap.
_NO_OVERLAP = 1e-8


def ipw(y: str, treatment: str, x: Sequence[str], *, propensity: Factory = logit) -> EstimatingFunction:
    r"""Inverse probability weighting: a weighted mean of each arm.

    :math:`\psi_i = \big(w_{i1} (y_i - \mu_0 - \mathrm{ATE}),\ w_{i0} (y_i - \mu_0)\big)` and the score of the
    propensity model. The weights are thereby normalised within each arm (Hajek).

    Parameters
    ----------
    y : str
        Outcome column.
    treatment : str
        Treatment column, 0 or 1.
    x : sequence of str
        Regressors of the propensity model.
    propensity : callable
        ``eeqs.moments.logit`` or ``eeqs.moments.probit``.

    Raises
    ------
    DataError
        When solved on a treatment other than 0/1, or without overlap: where a propensity is within 1e-8 of 0 or 1 at
        the start, which is the fit of the propensity model (for data in batches, its fit to the first of them).
        Starting values of the caller's own are taken as they are.
    ValueError
        If the propensity model is another one; put that together by `eeqs.stack`.

    References
    ----------
    Lunceford & Davidian (2004) Statistics in Medicine 23; Cattaneo (2010) J. Econometrics 155.
    """
    score = _model("propensity", propensity, _PROPENSITIES, treatment, x)

    def rows(theta: Tensor, data: Any, propensity: Tensor) -> Tensor:
        ate, control = theta
        first, second = _weights(data, score, propensity)
        return torch.stack([first * (data["y"] - control - ate), second * (data["y"] - control)], dim=1)

    return _joint(y, treatment, rows, score=score)


def regression_adjustment(
    y: str, treatment: str, x: Sequence[str], *, outcome: Factory = least_squares
) -> EstimatingFunction:
    r"""Regression adjustment (g-formula): predictions for both arms, averaged over all observations.

    :math:`\psi_i = (\hat y_{i1} - \mu_0 - \mathrm{ATE},\ \hat y_{i0} - \mu_0)` and the scores of the outcome model in
    the control arm, ``outcome0``, and in the treated arm, ``outcome1``.

    Parameters
    ----------
    y : str
        Outcome column.
    treatment : str
        Treatment column, 0 or 1.
    x : sequence of str
        Regressors of the outcome models.
    outcome : callable
        ``eeqs.moments.least_squares``, ``logit``, ``probit`` or ``poisson``.

    Raises
    ------
    DataError
        When solved on a treatment other than 0/1.
    ValueError
        If the outcome model is another one; put that together by `eeqs.stack`.

    References
    ----------
    Robins (1986) Mathematical Modelling 7; Wooldridge (2010) Econometric Analysis, ch. 21.
    """
    model = _model("outcome", outcome, _OUTCOMES, y, x)

    def rows(theta: Tensor, data: Any, outcome0: Tensor, outcome1: Tensor) -> Tensor:
        ate, control = theta
        first, second = (model.mean(data["outcome"] @ b) for b in (outcome1, outcome0))
        return torch.stack([first - control - ate, second - control], dim=1)

    return _joint(y, treatment, rows, model=model)


def aipw(
    y: str,
    treatment: str,
    x: Sequence[str],
    *,
    propensity_x: Sequence[str] | None = None,
    outcome: Factory = least_squares,
    propensity: Factory = logit,
) -> EstimatingFunction:
    r"""Augmented inverse probability weighting: consistent if either nuisance model is right.

    With :math:`\tilde y_{ik} = \hat y_{ik} + w_{ik} (y_i - \hat y_{ik})`,
    :math:`\psi_i = (\tilde y_{i1} - \mu_0 - \mathrm{ATE},\ \tilde y_{i0} - \mu_0)` and the scores of the outcome model
    in each arm, ``outcome0`` and ``outcome1``, and of the propensity model.

    Parameters
    ----------
    y : str
        Outcome column.
    treatment : str
        Treatment column, 0 or 1.
    x : sequence of str
        Regressors of the outcome models.
    propensity_x : sequence of str, optional
        Regressors of the propensity model; those of the outcome models when left out.
    outcome : callable
        ``eeqs.moments.least_squares``, ``logit``, ``probit`` or ``poisson``.
    propensity : callable
        ``eeqs.moments.logit`` or ``eeqs.moments.probit``.

    Raises
    ------
    DataError, ValueError
        As `ipw` and `regression_adjustment`.

    References
    ----------
    Robins, Rotnitzky & Zhao (1994) JASA 89; Bang & Robins (2005) Biometrics 61.
    """
    model = _model("outcome", outcome, _OUTCOMES, y, x)
    score = _model("propensity", propensity, _PROPENSITIES, treatment, x if propensity_x is None else propensity_x)

    def rows(theta: Tensor, data: Any, outcome0: Tensor, outcome1: Tensor, propensity: Tensor) -> Tensor:
        ate, control = theta
        fitted = [model.mean(data["outcome"] @ b) for b in (outcome1, outcome0)]
        weights = _weights(data, score, propensity)
        first, second = (f + w * (data["y"] - f) for f, w in zip(fitted, weights, strict=True))
        return torch.stack([first - control - ate, second - control], dim=1)

    return _joint(y, treatment, rows, model=model, score=score)


@dataclass(frozen=True)
class _Model:
    """A regression with one linear index, and the mean of its response as a function of that index."""

    function: EstimatingFunction
    linear: LinearIndex
    mean: Mean

    def design(self, prepared: Any) -> Tensor:
        return self.linear.designs(prepared)[0]


def _model(what: str, factory: Factory, known: Mapping[Factory, Mean], y: str, x: Sequence[str]) -> _Model:
    if factory not in known:
        names = [f"eeqs.moments.{getattr(each, '__name__', each)}" for each in known]
        raise ValueError(f"the {what} model must be one of {names}; put others together by eeqs.stack.")
    function = factory(y, x)
    assert function.linear is not None  # noqa: S101 - the models of the tables have a linear index
    return _Model(function, function.linear, known[factory])


def _arms(model: _Model, treatment: str) -> dict[str, EstimatingFunction]:
    """Outcome model in the control and in the treated arm, on one design."""
    start = model.function.start

    def residual(index: Tensor, data: Any) -> Tensor:
        return data["arm"] * model.linear.residuals((index,), data["model"])[0]

    control = from_linear_index(
        residual,
        lambda data: model.design(data["model"]),
        names=model.function.names,
        columns=(*(model.function.columns or ()), treatment),
        prepare=lambda leaves: {"arm": 1 - leaves[treatment], "model": model.function.prepare(leaves)},
        start=None if start is None else lambda data: start(data["model"]),
    )
    treated: dict[str, Any] = {"prepare": lambda _, outcome0: {**outcome0, "arm": 1 - outcome0["arm"]}}
    return {"outcome0": control, "outcome1": replace(control, **treated)}


def _weights(data: Any, score: _Model, theta: Tensor) -> tuple[Tensor, Tensor]:
    """Inverse probability weights (n,) of the treated and of the controls, zero in the other arm."""
    index, treated = data["propensity"] @ theta, data["a"]
    # The links are symmetric, 1 - F(t) = F(-t), which keeps the digits of small probabilities.
    weight = 1 / score.mean(torch.where(treated == 1, index, -index))
    return treated * weight, (1 - treated) * weight


def _require_overlap(fitted: Tensor, treatment: str) -> None:
    bad = (fitted < _NO_OVERLAP) | (fitted > 1 - _NO_OVERLAP)
    if bool(bad.any()):
        row = int(bad.nonzero()[0])
        raise DataError(
            f'no overlap: the fitted probability of treatment "{treatment}" is within {_NO_OVERLAP:g} of 0 or 1 for '
            f"{int(bad.sum())} row(s), first at row {row}; leave out the rows or the regressors that determine it."
        )


def _require_binary(y: str, treatment: str, leaves: Mapping[str, Tensor]) -> None:
    given = leaves[treatment]
    if leaves[y].shape != given.shape:
        raise DataError(f'column "{y}" has shape {tuple(leaves[y].shape)} and "{treatment}" {tuple(given.shape)}.')
    other = (given != 0) & (given != 1)
    if bool(other.any()):
        value = float(given[other][0])
        raise DataError(f'treatment "{treatment}" has the value {value:g}; code it as 0 (control) and 1 (treated).')


def _joint(
    y: str, treatment: str, rows: Callable[..., Tensor], *, model: _Model | None = None, score: _Model | None = None
) -> EstimatingFunction:
    """Stack nuisance models and effects, and put the two effects before the nuisance parameters."""
    blocks = {} if model is None else _arms(model, treatment)
    effect: dict[str, Any] = {"psi": rows, "names": ("ATE", "POmean0"), "columns": (y, treatment)}
    if score is not None:
        blocks["propensity"] = score.function

        def effect_start(data: Any, propensity: Tensor) -> Tensor:
            _require_overlap(score.mean(data["propensity"] @ propensity), treatment)
            return propensity.new_zeros(2)

        effect["start"] = effect_start
    joint = stack(**blocks, effect=EstimatingFunction(**effect))
    start, jacobian = joint.start, joint.mean_jacobian
    assert start is not None and jacobian is not None  # noqa: S101, PT018 - a stack has both

    def prepare(leaves: Any) -> Any:
        _require_binary(y, treatment, leaves)
        prepared = joint.prepare(leaves)
        own = {"y": leaves[y], "a": leaves[treatment]}
        if model is not None:
            own["outcome"] = model.design(prepared["outcome0"]["model"])
        if score is not None:
            own["propensity"] = score.design(prepared["propensity"])
        return {**prepared, "effect": own}

    return replace(
        joint,
        psi=lambda theta, data: joint.psi(theta.roll(-2), data).roll(2, 1),
        names=("ATE", "POmean0", *joint.names[:-2]),
        prepare=prepare,
        start=lambda data: start(data).roll(2),
        mean_jacobian=lambda theta, data: jacobian(theta.roll(-2), data).roll((2, 2), (0, 1)),
    )
