"""Exceptions raised at the door and statuses returned by the solver."""

from __future__ import annotations

from enum import Enum

__all__ = ["DataError", "EeqsError", "NotEstimableError", "PsiError", "SingularBreadError", "SolverError", "Status"]


class EeqsError(Exception):
    """Base class of every exception the package raises on purpose."""


class DataError(EeqsError, ValueError):
    """Data that cannot be estimated on; the message names the column and the remedy."""


class PsiError(EeqsError, ValueError):
    """An estimating function that returns the wrong shape or non-finite values."""


class SingularBreadError(EeqsError, ValueError):
    """A bread without full rank; the message names the parameters that are not identified.

    Parameters
    ----------
    message : str
        What the caller reads.
    parameters : tuple of str
        The parameters that enter the null directions of the bread.
    """

    def __init__(self, message: str, parameters: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.parameters = parameters


class NotEstimableError(EeqsError, ValueError):
    """A functional that depends on what the equations do not identify; the message names the parameters.

    Parameters
    ----------
    message : str
        What the caller reads.
    parameters : tuple of str
        The parameters of the free directions along which the functional changes.
    """

    def __init__(self, message: str, parameters: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.parameters = parameters


class SolverError(EeqsError, RuntimeError):
    """A failed solve, raised only when the caller asked for it with ``throw=True``."""


class Status(Enum):
    """Outcome of a solve: a short name, its cause and its remedy.

    A failed solve is a value, not an exception, so that a simulation study can count it.
    """

    CONVERGED = ("converged", "the mean of psi is zero to the requested accuracy", "nothing to do")
    MAX_ITERATIONS = (
        "max_iterations",
        "the iteration limit was reached before the mean of psi vanished",
        "raise max_iterations, rescale the model, or start closer to the root",
    )
    STALLED = (
        "stalled",
        "no step reduces the scaled mean of psi: a minimum of its norm, or a step function, whose derivative is zero",
        "try other starting values, which stall too with no root on this sample; solve medians by moments.quantile",
    )
    SINGULAR = (
        "singular",
        "the bread is rank deficient at the solution, so the root is not unique",
        "drop or combine the parameters that eeqs.sandwich names, or add data that separates them",
    )
    DEGENERATE = (
        "degenerate",
        "an equation vanishes for every observation while the parameters run off (as under perfect separation)",
        "remove the separating column, merge categories, or penalise",
    )
    NON_FINITE = (
        "non_finite",
        "psi or its Jacobian is NaN or infinite at the current parameters",
        "start from other values, or bound the parameters by a transformation such as log or logit",
    )
    DIVERGED = (
        "diverged",
        "an iterate of a stochastic recursion left the allowed region",
        "lower the first step or raise its delay, clip or project the steps, precondition, or take larger batches",
    )
    UNSETTLED = (
        "unsettled",
        "the mean of psi along the averaged iterates is not zero, so the run still drifts away from its start",
        "take more steps or a longer burn-in, raise the first step, or precondition",
    )

    def __init__(self, label: str, cause: str, remedy: str) -> None:
        self.label = label
        self.cause = cause
        self.remedy = remedy

    def __str__(self) -> str:
        return self.label

    @property
    def text(self) -> str:
        """One sentence: the name, the cause and the remedy."""
        return f"{self.label}: {self.cause}; {self.remedy}."
