"""Lines of the ridge study: a spectrum and a target, a model of the response, and the penalty of the theory."""

from __future__ import annotations

from dataclasses import dataclass

from eeqs.marginal import Score, cross_fitted, exact
from simulations.designs.index_models import IndexModel, PerturbedLogit, Squares
from simulations.designs.power_law import PowerLaw
from simulations.designs.ridge_equivalent import best_penalty, equivalent_risk

__all__ = ["LINES", "Line", "theory_penalty"]

# Where the constant of the penalty is the best one by the deterministic equivalent.
_REFERENCE_SIZE = 512


@dataclass(frozen=True)
class Line:
    """One line of a rate plot.

    Attributes
    ----------
    estimator : str
    design : PowerLaw
        Spectrum and target.
    model : IndexModel
        Response and estimating function.
    burn_in : int
        Size from which the slope is fitted.
    """

    estimator: str
    design: PowerLaw
    model: IndexModel
    burn_in: int

    @property
    def levels(self) -> dict[str, str | float]:
        """Columns that name the line in the study's table."""
        return {"estimator": self.estimator, "decay": self.design.decay, "source": self.design.source}

    def equivalent(self, n: int) -> float:
        """Deterministic equivalent of the excess risk under the theory's penalty.

        It is that of the linearised problem, with the noise of the line's own estimating function: exact to first
        order for least squares, for the other models what they approach as the error of the index falls.
        """
        information, noise_variance, risk = self.model.linearised(self.design.signal)
        return risk * equivalent_risk(self.design, n, theory_penalty(self, n) / information, noise_variance)


def theory_penalty(line: Line, n: int) -> float:
    r"""Ridge penalty :math:`\lambda_n = c\, n^{-a/(2ra+1)}` per observation.

    The constant is fixed before any simulation: at n = 512 the penalty is the one that minimises the deterministic
    equivalent of the linearised problem, times the information of the model.
    """
    information, noise_variance, _ = line.model.linearised(line.design.signal)
    reference = best_penalty(line.design, _REFERENCE_SIZE, noise_variance)
    return information * reference * (n / _REFERENCE_SIZE) ** -line.design.penalty_exponent


# Decay, source and noise variance. At this noise the equivalent's slope over n = 64 to 2,048 lies within 0.01 of the
# exponent, see the page of T7.
_LEAST_SQUARES = ((1.5, 0.5, 0.75), (2.0, 0.5, 0.35), (1.5, 0.75, 0.2), (2.0, 0.75, 0.1))
# Decay, source and responses an observation, chosen for the same slope from the burn-in on. The variance of the index
# is small against the scale of the response, 3.3 for a logit: the equivalent is that of a linearised problem, and with
# an index of variance 4 a shrunk one was more informative than the truth by an amount that faded too slowly.
_LOGISTIC_SIGNAL = 0.5
_LOGISTIC = ((1.5, 0.5, 12), (2.0, 0.5, 24), (1.5, 0.75, 48))
# The same for the logit with noise of scale 4, whose scale squared is about 19.
_PERTURBED_SIGNAL, _SCALE, _TRIALS = 2.0, 4.0, 32
_NODES, _DRAWS = 40, 4
# Below, the fitted index is mostly shrinkage, and the linearised problem is a rough guide.
_BINARY_BURN_IN = 128


def _logistic(decay: float, source: float, trials: int) -> Line:
    model = PerturbedLogit(exact(1), trials=trials)
    return Line("logistic", PowerLaw(decay, source, _LOGISTIC_SIGNAL), model, _BINARY_BURN_IN)


def _perturbed(score: Score, draws: int, decay: float) -> Line:
    model = PerturbedLogit(score, _SCALE, draws, _TRIALS, _NODES)
    return Line(f"perturbed_{score.name}", PowerLaw(decay, 0.5, _PERTURBED_SIGNAL), model, _BINARY_BURN_IN)


LINES = (
    *(Line("least_squares", PowerLaw(a, r), Squares(noise), burn_in=64) for a, r, noise in _LEAST_SQUARES),
    *(_logistic(*setting) for setting in _LOGISTIC),
    _perturbed(cross_fitted, _DRAWS, 1.5),
    _perturbed(cross_fitted, _DRAWS, 2.0),
    _perturbed(exact(_NODES), 0, 1.5),
)
