"""Classic estimating functions as factories by column names.

Each returns an `eeqs.EstimatingFunction` that validates its columns, knows its start and names its parameters.
"""

from eeqs.engine.moments.expectile import expectile
from eeqs.engine.moments.quantile import quantile
from eeqs.engine.moments.regression import least_squares, logit, poisson, probit
from eeqs.engine.moments.robust import bisquare, huber
from eeqs.engine.moments.treatment import aipw, ipw, regression_adjustment
from eeqs.engine.moments.univariate import mean, variance

__all__ = [
    "aipw",
    "bisquare",
    "expectile",
    "huber",
    "ipw",
    "least_squares",
    "logit",
    "mean",
    "poisson",
    "probit",
    "quantile",
    "regression_adjustment",
    "variance",
]
