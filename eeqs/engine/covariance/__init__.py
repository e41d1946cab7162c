"""The only variance code: bread, meat, sandwich, and one file for every assumption on the meat."""

from eeqs.engine.covariance.bootstrap import Bootstrap, bootstrap, exponential, multinomial
from eeqs.engine.covariance.bootstrap_draws import BootstrapDraws
from eeqs.engine.covariance.cluster import Cluster
from eeqs.engine.covariance.fay_graubard import FayGraubard
from eeqs.engine.covariance.hac import HAC
from eeqs.engine.covariance.independent import Independent
from eeqs.engine.covariance.jackknife import Jackknife
from eeqs.engine.covariance.kernels import Kernel, andrews, bartlett, newey_west, parzen, quadratic_spectral
from eeqs.engine.covariance.root import CovarianceKind, Root
from eeqs.engine.covariance.sandwich import as_covariance, bread, meat, sandwich, spread
from eeqs.engine.covariance.simulation import SimulationShare, simulation_share
from eeqs.engine.covariance.two_way import TwoWay

__all__ = [
    "HAC",
    "Bootstrap",
    "BootstrapDraws",
    "Cluster",
    "CovarianceKind",
    "FayGraubard",
    "Independent",
    "Jackknife",
    "Kernel",
    "Root",
    "SimulationShare",
    "TwoWay",
    "andrews",
    "as_covariance",
    "bartlett",
    "bootstrap",
    "bread",
    "exponential",
    "meat",
    "multinomial",
    "newey_west",
    "parzen",
    "quadratic_spectral",
    "sandwich",
    "simulation_share",
    "spread",
]
