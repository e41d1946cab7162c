"""Unbiased estimating equations: solve them, check them, and report their sandwich standard errors."""

from eeqs.engine import covariance, moments
from eeqs.engine.checks import FiniteSupport, check_jacobian, check_unbiased
from eeqs.engine.covariance import (
    HAC,
    Bootstrap,
    Cluster,
    CovarianceKind,
    FayGraubard,
    Jackknife,
    TwoWay,
    bootstrap,
    bread,
    meat,
    sandwich,
    simulation_share,
)
from eeqs.engine.errors import (
    DataError,
    EeqsError,
    NotEstimableError,
    PsiError,
    SingularBreadError,
    SolverError,
    Status,
)
from eeqs.engine.gmm import ContinuouslyUpdated, GMMEstimate, Iterated, OneStep, TwoStep, gmm
from eeqs.engine.inference import (
    DerivedEstimate,
    Estimate,
    HypothesisTest,
    Profile,
    contrast,
    distance_test,
    estimate,
    load,
    profile,
    score_test,
)
from eeqs.engine.matrix_free import Functional, estimate_functional
from eeqs.engine.minibatch import minibatches
from eeqs.engine.numpy_psi import from_numpy
from eeqs.engine.online_covariance import BatchMeans, OnlineCovariance, PlugIn, RandomScaling
from eeqs.engine.penalties import bridge, penalise, ridge
from eeqs.engine.psi import EstimatingFunction, from_linear_index, from_linear_indices, from_loss, from_surrogate
from eeqs.engine.smoothing import induced_smoothing
from eeqs.engine.solve import Solution, solve
from eeqs.engine.stack import stack
from eeqs.engine.stochastic import stochastic
from eeqs.engine.stochastic_estimate import StochasticEstimate
from eeqs.engine.stochastic_step import PowerStep
from eeqs.engine.transform import derive, transform
from eeqs.engine.weights import weight

__version__ = "0.1.0"

__all__ = [
    "HAC",
    "BatchMeans",
    "Bootstrap",
    "Cluster",
    "ContinuouslyUpdated",
    "CovarianceKind",
    "DataError",
    "DerivedEstimate",
    "EeqsError",
    "Estimate",
    "EstimatingFunction",
    "FayGraubard",
    "FiniteSupport",
    "Functional",
    "GMMEstimate",
    "HypothesisTest",
    "Iterated",
    "Jackknife",
    "NotEstimableError",
    "OneStep",
    "OnlineCovariance",
    "PlugIn",
    "PowerStep",
    "Profile",
    "PsiError",
    "RandomScaling",
    "SingularBreadError",
    "Solution",
    "SolverError",
    "Status",
    "StochasticEstimate",
    "TwoStep",
    "TwoWay",
    "bootstrap",
    "bread",
    "bridge",
    "check_jacobian",
    "check_unbiased",
    "contrast",
    "covariance",
    "derive",
    "distance_test",
    "estimate",
    "estimate_functional",
    "from_linear_index",
    "from_linear_indices",
    "from_loss",
    "from_numpy",
    "from_surrogate",
    "gmm",
    "induced_smoothing",
    "load",
    "meat",
    "minibatches",
    "moments",
    "penalise",
    "profile",
    "ridge",
    "sandwich",
    "score_test",
    "simulation_share",
    "solve",
    "stack",
    "stochastic",
    "transform",
    "weight",
]
