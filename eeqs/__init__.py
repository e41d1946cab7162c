"""Unbiased estimating equations: solve them, check them, and report their sandwich standard errors."""

from eeqs.engine import moments
from eeqs.engine.checks import FiniteSupport, check_jacobian, check_unbiased
from eeqs.engine.covariance import Cluster, CovarianceKind, bread, meat, sandwich
from eeqs.engine.errors import DataError, EeqsError, PsiError, SingularBreadError, SolverError, Status
from eeqs.engine.inference import Estimate, estimate
from eeqs.engine.matrix_free import Functional, estimate_functional
from eeqs.engine.numpy_psi import from_numpy
from eeqs.engine.penalties import bridge, penalise, ridge
from eeqs.engine.psi import EstimatingFunction, from_linear_index, from_linear_indices, from_loss, from_surrogate
from eeqs.engine.solve import Solution, solve
from eeqs.engine.weights import weight

__version__ = "0.1.0"

__all__ = [
    "Cluster",
    "CovarianceKind",
    "DataError",
    "EeqsError",
    "Estimate",
    "EstimatingFunction",
    "FiniteSupport",
    "Functional",
    "PsiError",
    "SingularBreadError",
    "Solution",
    "SolverError",
    "Status",
    "bread",
    "bridge",
    "check_jacobian",
    "check_unbiased",
    "estimate",
    "estimate_functional",
    "from_linear_index",
    "from_linear_indices",
    "from_loss",
    "from_numpy",
    "from_surrogate",
    "meat",
    "moments",
    "penalise",
    "ridge",
    "sandwich",
    "solve",
    "weight",
]
