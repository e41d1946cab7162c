"""The only variance code: bread, meat, sandwich, and one file for every assumption on the meat."""

from eeqs.engine.covariance.cluster import Cluster
from eeqs.engine.covariance.independent import Independent
from eeqs.engine.covariance.root import CovarianceKind, Root
from eeqs.engine.covariance.sandwich import as_covariance, bread, meat, sandwich, spread

__all__ = ["Cluster", "CovarianceKind", "Independent", "Root", "as_covariance", "bread", "meat", "sandwich", "spread"]
