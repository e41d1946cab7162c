"""Classic estimating functions as factories by column names.

Each returns an `eeqs.EstimatingFunction` that validates its columns, knows its start and names its parameters.
"""

from eeqs.engine.moments import correlations, families, links
from eeqs.engine.moments.dispersion import beta, gamma, negative_binomial
from eeqs.engine.moments.expectile import expectile
from eeqs.engine.moments.gee import gee
from eeqs.engine.moments.instrumental import exponential_iv, iv, two_stage_least_squares
from eeqs.engine.moments.multinomial import multinomial_logit
from eeqs.engine.moments.quantile import quantile
from eeqs.engine.moments.regression import least_squares, logit, poisson, probit
from eeqs.engine.moments.robust import bisquare, huber
from eeqs.engine.moments.treatment import aipw, ipw, regression_adjustment
from eeqs.engine.moments.univariate import mean, ratio, variance

__all__ = [
    "aipw",
    "beta",
    "bisquare",
    "correlations",
    "expectile",
    "exponential_iv",
    "families",
    "gamma",
    "gee",
    "huber",
    "ipw",
    "iv",
    "least_squares",
    "links",
    "logit",
    "mean",
    "multinomial_logit",
    "negative_binomial",
    "poisson",
    "probit",
    "quantile",
    "ratio",
    "regression_adjustment",
    "two_stage_least_squares",
    "variance",
]
