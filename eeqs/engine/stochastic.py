r"""Stochastic approximation: the root of the expectation of psi from batches seen once.

.. math:: \theta_t = \theta_{t-1} + \gamma_t H \bar\psi_t(\theta_{t-1}), \qquad \gamma_t = \gamma_0 (t + t_0)^{-\alpha},
          \qquad \bar\theta_T = \frac1T \sum_{t = b + 1}^{b + T} \theta_t ,

with :math:`\bar\psi_t` the mean of psi over batch t. The sign is that of the engine, where psi is minus the gradient of
a loss. With :math:`1/2 < \alpha < 1` the averaged iterate has the covariance of the root of a sample of as many rows,
:math:`A^{-1} B A^{-\top} / T` with B the variance of :math:`\bar\psi_t`, whatever :math:`\gamma_0` and H; the last
iterate is at a distance of order :math:`\gamma_T^{1/2}`. Robbins & Monro (1951), Ruppert (1988), Polyak & Juditsky
(1992).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from eeqs.engine.door import as_theta, check_psi
from eeqs.engine.errors import DataError, SolverError, Status
from eeqs.engine.evaluate import Problem
from eeqs.engine.minibatch import problems
from eeqs.engine.online_covariance import OnlineCovariance, RandomScaling, Step
from eeqs.engine.psi import PsiLike, as_psi
from eeqs.engine.stochastic_estimate import FAILURES, StochasticEstimate, method_state
from eeqs.engine.stochastic_step import PowerStep, StepRule, as_rule

__all__ = ["stochastic"]

_CODES = {status: code for code, status in FAILURES.items()}


def stochastic(
    psi: PsiLike,
    batches: Iterable[Any] | Callable[[], Iterable[Any]],
    start: Any = None,
    *,
    step: Callable[[int], float] | None = None,
    steps: int | None = None,
    burn_in: int = 0,
    precondition: Any = None,
    clip: float = math.inf,
    project: Callable[[Tensor], Tensor] | None = None,
    bound: float = 1e8,
    covariance: Sequence[OnlineCovariance] = (RandomScaling(),),
    tolerance: float = 4.0,
    resume: Mapping[str, Tensor] | None = None,
    throw: bool = False,
) -> StochasticEstimate:
    r"""Solve :math:`E\, \psi(\theta) = 0` by averaged stochastic approximation, with online intervals.

    Memory does not grow with the number of steps, and every batch is read once.

    Parameters
    ----------
    psi : callable or EstimatingFunction
        ``psi(theta, data) -> (n,) or (n, p)`` in torch operations, such that theta rises where the mean is positive.
    batches : iterable, or function that returns one
        Batches, each a DataFrame, a mapping of columns or a tuple of arrays with one leading axis; for R independent
        replicates, leaves (R, n, ...). `minibatches` cuts them from data in memory. Exactly as many are taken from an
        iterator as steps are made.
    start : array of shape (p,) or (R, p), optional
        Starting values; two axes mean replicates. Defaults to the start of psi on the first batch, where it has one.
    step : callable, optional
        ``step(t) -> float`` for t = 1, 2, ...; by default ``PowerStep()``.
    steps : int, optional
        Steps to make; by default until there are no more batches, which may be earlier in any case.
    burn_in : int
        First iterates that are left out of the average and of the covariances.
    precondition : array of shape (p,) or (p, p), optional
        H, or its diagonal. Minus the inverse of the bread makes all directions alike.
    clip : float
        Longest step, in the Euclidean norm of the change of theta. As step sizes fall it ceases to bind, so it does
        not move the root as clipping psi would.
    project : callable, optional
        ``project(theta) -> theta``, applied to every iterate (..., p), such as a clamp to a box that holds the root.
    bound : float
        A run with an entry of theta beyond it has diverged.
    covariance : sequence of OnlineCovariance
        `RandomScaling`, `PlugIn`, `BatchMeans`. The plug-in one takes Jacobians of psi, the others cost nothing.
    tolerance : float
        Largest ``residual_norm`` of a run that counts as settled, see `StochasticEstimate`.
    resume : mapping of str to Tensor, optional
        ``StochasticEstimate.state`` of an earlier leg, to go on from with further batches and the same arguments. Two
        legs give the bits of one run.
    throw : bool
        Raise `SolverError` instead of returning a failed status.

    Returns
    -------
    StochasticEstimate

    Raises
    ------
    DataError, PsiError
        On bad input: batches that are not valid or empty, a wrong length of start, psi of the wrong shape.
    SolverError
        If a run failed and ``throw`` is set.
    ValueError
        If another argument is out of range, or the state to resume does not fit the arguments.

    Examples
    --------
    >>> import torch, eeqs
    >>> generator = torch.Generator().manual_seed(1)
    >>> data = {"y": 3 + torch.randn(5000, generator=generator)}
    >>> fit = eeqs.stochastic(eeqs.moments.mean("y"), eeqs.minibatches(data, 10), [0.0])
    >>> fit.converged, fit.averaged
    (True, 500)
    >>> low, high = fit.interval(0.95)[0].tolist()
    >>> low < 3 < high
    True
    """
    sizes = {"clip": clip, "bound": bound, "tolerance": tolerance}
    _check_arguments(steps, burn_in, sizes, covariance, start, resume)
    function = as_psi(psi)
    begun = start if resume is None else resume.get("theta")
    batched = begun is not None and torch.as_tensor(begun).ndim == 2
    rule: StepRule | None = None
    state: dict[str, Tensor] = {}
    names: tuple[str, ...] = ()
    for problem in problems(function, batches, steps, batched=batched):
        if rule is None:
            theta = as_theta(problem, begun)
            check_psi(problem, theta, equations=theta.shape[-1])
            rule = as_rule(step or PowerStep(), precondition, clip, project, theta)
            names = problem.names(theta.shape[-1])
            state = _first(theta, covariance) if resume is None else _resumed(resume, theta, covariance)
        before = state["theta"]
        state, score = _advance(state, problem, rule, bound)
        if int(state["steps"]) > burn_in:
            state = _average(state, score, partial(problem.jacobian, before), covariance)
        if bool((state["failure"] != 0).all()):
            break
    if rule is None:
        raise DataError("there are no batches; an iterator that was read before is empty.")
    estimate = StochasticEstimate({k: v.clone() for k, v in state.items()}, tuple(covariance), names, tolerance)
    if throw:
        _raise_failed(estimate)
    return estimate


def _advance(
    state: dict[str, Tensor], problem: Problem, rule: StepRule, bound: float
) -> tuple[dict[str, Tensor], Tensor]:
    """Make one step and return the mean of psi it was made with; a failed replicate stays at its last valid iterate."""
    theta, steps = state["theta"], state["steps"] + 1
    score = problem.values(theta).mean(dim=-2)
    trial = rule.move(theta, score, int(steps))
    inside = torch.isfinite(trial).all(dim=-1) & (trial.abs().amax(dim=-1) <= bound)
    failure = torch.where(inside, 0, _CODES[Status.DIVERGED])
    failure = torch.where(torch.isfinite(score).all(dim=-1), failure, _CODES[Status.NON_FINITE])
    failure = torch.where(state["failure"] == 0, failure, state["failure"])
    iterate = torch.where((failure == 0).unsqueeze(-1), trial, theta)
    return state | {"theta": iterate, "steps": steps, "failure": failure}, score


def _average(
    state: dict[str, Tensor], score: Tensor, jacobian: Callable[[], Tensor], methods: Sequence[OnlineCovariance]
) -> dict[str, Tensor]:
    """Add the newest iterate to the average and to the covariances."""
    averaged = state["averaged"] + 1
    shift = (state["theta"] - state["mean"]) / averaged
    mean = state["mean"] + shift
    now = Step(state["theta"], mean, shift, score, jacobian)
    kept = {"averaged": averaged, "mean": mean}
    kept |= {"psi_sum": state["psi_sum"] + score, "psi_square": state["psi_square"] + score.square()}
    for method in methods:
        updated = method.update(method_state(state, method), now)
        kept |= {f"{method.name}.{key}": value for key, value in updated.items()}
    return state | kept


def _first(theta: Tensor, methods: Sequence[OnlineCovariance]) -> dict[str, Tensor]:
    """State before the first step."""
    state = {name: torch.zeros_like(theta) for name in ("mean", "psi_sum", "psi_square")}
    state |= {"theta": theta, "failure": torch.zeros(theta.shape[:-1], dtype=torch.int64, device=theta.device)}
    state |= {name: torch.zeros((), dtype=torch.int64) for name in ("steps", "averaged")}
    for method in methods:
        state |= {f"{method.name}.{key}": value for key, value in method.start(theta).items()}
    return state


def _resumed(saved: Mapping[str, Tensor], theta: Tensor, methods: Sequence[OnlineCovariance]) -> dict[str, Tensor]:
    """State of an earlier leg, on the device of the data."""
    fresh = _first(theta, methods)
    if set(saved) != set(fresh):
        raise ValueError(
            f"the state to resume lacks {sorted(set(fresh) - set(saved))} and has {sorted(set(saved) - set(fresh))} "
            "besides; pass the same covariance as in the first leg."
        )
    for name, value in fresh.items():
        if saved[name].shape != value.shape or saved[name].dtype != value.dtype:
            raise ValueError(
                f'"{name}" of the state to resume is {saved[name].dtype} of shape {tuple(saved[name].shape)}; '
                f"here it is {value.dtype} of shape {tuple(value.shape)}."
            )
    return {name: saved[name].to(value.device) for name, value in fresh.items()}


def _check_arguments(
    steps: int | None,
    burn_in: int,
    sizes: Mapping[str, float],
    covariance: Sequence[OnlineCovariance],
    start: Any,
    resume: Mapping[str, Tensor] | None,
) -> None:
    if steps is not None and steps < 1:
        raise ValueError(f"steps is {steps}; make at least one, or leave it out to use all batches.")
    if burn_in < 0:
        raise ValueError(f"burn_in is {burn_in}; pass a number of iterates, 0 or more.")
    for name, value in sizes.items():
        if not value > 0:
            raise ValueError(f"{name} is {value}; pass a positive number.")
    names = [method.name for method in covariance]
    if len(set(names)) < len(names):
        raise ValueError(f"covariance holds a method twice: {names}.")
    if resume is not None and start is not None:
        raise ValueError("a resumed run starts from its state; leave start out.")
    if resume is not None and "theta" not in resume:
        raise ValueError("resume holds no theta; pass StochasticEstimate.state.")


def _raise_failed(estimate: StochasticEstimate) -> None:
    status = estimate.status
    outcome = (status,) if isinstance(status, Status) else status
    failed = [one for one in outcome if one is not Status.CONVERGED]
    if failed:
        count = f"{len(failed)} of {len(outcome)} replicates failed; " if estimate.last.ndim == 2 else ""
        raise SolverError(f"{count}{failed[0].text}")
