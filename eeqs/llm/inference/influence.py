"""What each document does to the estimates."""

from __future__ import annotations

import pandas as pd
import torch

from eeqs.engine.covariance import Root
from eeqs.engine.covariance.cluster import cluster_jacobians, cluster_sums
from eeqs.engine.covariance.leverage import inverse_power, leverages
from eeqs.engine.inference import Estimate
from eeqs.engine.inference.influence import LeaveOneOut
from eeqs.engine.inference.wald import mahalanobis
from eeqs.llm.inference.stream import DOCUMENT

__all__ = ["document_influence", "leave_document_out"]


def document_influence(fit: Estimate) -> pd.DataFrame:
    r"""Empirical influence of every document (G, p): :math:`-A^{-1} \psi_g(\hat\varphi)`, with :math:`\psi_g` its sum.

    Dropping a document moves the estimate by about minus its row over ``fit.nobs``.

    Parameters
    ----------
    fit : Estimate
        From `estimate_perturbation`.
    """
    root = _root(fit)
    rows = -cluster_sums(root, DOCUMENT) @ fit.inverse.mT
    return pd.DataFrame(rows.numpy(force=True), index=_documents(root), columns=list(fit.names))


def leave_document_out(fit: Estimate) -> LeaveOneOut:
    r"""Approximate estimates without each document, by one Newton step from the root.

    .. math:: \hat\varphi_{(-g)} \approx \hat\varphi +
              \Big(n A - \frac{\partial \psi_g}{\partial \varphi}\Big)^{-1} \psi_g .

    Parameters
    ----------
    fit : Estimate
        From `estimate_perturbation`.

    Returns
    -------
    LeaveOneOut
        One row a document; see `eeqs.engine.inference.influence.LeaveOneOut`, ``distance`` being Cook's with the
        covariance by document.

    Raises
    ------
    DataError
        If the others do not identify a parameter without some document, or the fit was read from a file.

    References
    ----------
    Pregibon (1981) Annals of Statistics 9; Preisser & Qaqish (1996) Biometrika 83 for clusters.
    """
    root = _root(fit)
    names = _documents(root)
    sums, jacobians = cluster_jacobians(root, DOCUMENT)
    matrices, scale = leverages(root, jacobians)
    powers = inverse_power(matrices, 1.0, lambda g: f'document "{names[g]}"')
    adjusted = (powers @ (scale * sums)[:, :, None])[:, :, 0] / scale
    moved = (adjusted @ fit.inverse.mT / fit.nobs).numpy(force=True)
    shift = pd.DataFrame(moved, index=names, columns=list(fit.names))
    distance = mahalanobis(moved, fit.covariance.numpy(force=True)) / len(fit.names)
    return LeaveOneOut(shift + fit.params, shift, pd.Series(distance, index=shift.index, name="distance"))


def _root(fit: Estimate) -> Root:
    return Root(fit.data(), torch.as_tensor(fit.solution.theta), fit.names)


def _documents(root: Root) -> list[str]:
    """Names of the documents in the order in which the engine numbers them: that of their first windows."""
    return list(dict.fromkeys(name for batch in root.problem.data for name in batch[DOCUMENT]))
