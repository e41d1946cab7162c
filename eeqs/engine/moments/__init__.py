"""Classic estimating functions as factories by column names.

Each returns an `eeqs.EstimatingFunction` that validates its columns, knows its start and names its parameters.
"""

from eeqs.engine.moments.quantile import quantile
from eeqs.engine.moments.regression import least_squares, logit, poisson
from eeqs.engine.moments.univariate import mean, variance

__all__ = ["least_squares", "logit", "mean", "poisson", "quantile", "variance"]
