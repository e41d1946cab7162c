"""Classic estimating functions as factories by column names.

Each returns an `eeqs.EstimatingFunction` that validates its columns, knows its start and names its parameters.
"""

from eeqs.engine.moments import correlations, families, links
from eeqs.engine.moments.beta import beta
from eeqs.engine.moments.dose_response import log_logistic_curve
from eeqs.engine.moments.expectile import expectile
from eeqs.engine.moments.gamma import gamma
from eeqs.engine.moments.gee import gee
from eeqs.engine.moments.instrumental import exponential_iv, iv, two_stage_least_squares
from eeqs.engine.moments.meta_analysis import random_effects
from eeqs.engine.moments.multinomial import multinomial_logit
from eeqs.engine.moments.negative_binomial import negative_binomial
from eeqs.engine.moments.quantile import quantile
from eeqs.engine.moments.regression import least_squares, logit, poisson, probit
from eeqs.engine.moments.robust import bisquare, huber
from eeqs.engine.moments.survival import exponential_aft, log_logistic_aft, log_normal_aft, weibull_aft
from eeqs.engine.moments.treatment import aipw, ipw, regression_adjustment
from eeqs.engine.moments.univariate import mean, ratio, variance

__all__ = [
    "aipw",
    "beta",
    "bisquare",
    "correlations",
    "expectile",
    "exponential_aft",
    "exponential_iv",
    "families",
    "gamma",
    "gee",
    "huber",
    "ipw",
    "iv",
    "least_squares",
    "links",
    "log_logistic_aft",
    "log_logistic_curve",
    "log_normal_aft",
    "logit",
    "mean",
    "multinomial_logit",
    "negative_binomial",
    "poisson",
    "probit",
    "quantile",
    "random_effects",
    "ratio",
    "regression_adjustment",
    "two_stage_least_squares",
    "variance",
    "weibull_aft",
]
