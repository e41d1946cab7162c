"""What every perturbation promises, as one check that anyone can run on a family of their own."""

from __future__ import annotations

import copy
import warnings

import torch
from torch import Tensor, nn

from eeqs.marginal.perturbation_clauses import CLAUSES, Subject

__all__ = ["check_perturbation"]


def check_perturbation(
    module: nn.Module,
    identity: nn.Module | None = None,
    *,
    sequence: bool = False,
    embeddings: Tensor | None = None,
    extreme: float = 1e4,
    length: int = 6,
    generator: torch.Generator | None = None,
) -> None:
    r"""Check a perturbation g(e, z) against every clause of its contract; the module is left as it is.

    *protocol*: a torch module with dim, latent_dim and latent_law. *purity*: no random numbers of its own, no
    changed arguments. *law*: sample, quantile and quadrature describe one law. *shapes*: (..., d) and (..., q) give
    (..., d). *broadcasting*: draw axes in front of those of the prefix. *latent*: each of the latent_dim
    coordinates moves the result. *parameters*: stored in float64, and each moves the result. *dtypes*: float64,
    float32 and bfloat16 stay what they are. *causality*: a vector stands alone; in a sequence, neither changing
    later positions nor cutting them off is felt. *derivatives*: first and second, in every nesting of forward and
    reverse mode, against differences. *vmap*: over prefixes, draws and parameters. *identity*: that setting returns
    the prefix exactly, with finite derivatives. *extremes*: finite values and derivatives at huge embeddings, at
    zero, and in the tails of the law. *state*: parameters and buffers are saved and loaded. *devices*: nothing is
    left behind when the module moves.

    Parameters
    ----------
    module : torch.nn.Module
        In float64 on the CPU, at a point at which all its parameters matter (so not at its identity).
    identity : torch.nn.Module, optional
        The family at a setting with g(e, z) = e. Left out, that clause is not checked.
    sequence : bool
        Whether the map looks at positions, axis -2; otherwise every vector must stand alone.
    embeddings : Tensor of shape (m, d), optional
        Embeddings to draw prefixes from, for a family whose identity holds on some only; normal ones by default.
    extreme : float
        Size of huge embeddings; lower it for a family that states where it overflows.
    length : int
        Positions of the sequences tried, at least 5.
    generator : torch.Generator, optional
        For the points at which it is evaluated; a fixed one by default.

    Raises
    ------
    AssertionError
        Naming the clause that is broken, with the cause chained to it.

    Examples
    --------
    >>> from eeqs.marginal import Gaussian
    >>> check_perturbation(Gaussian(3, log_scale=-0.5), identity=Gaussian(3, scale=0.0))
    """
    rng = generator or torch.Generator().manual_seed(0)
    subject = Subject(copy.deepcopy(module), copy.deepcopy(identity), sequence, embeddings, extreme, length, rng)
    with warnings.catch_warnings():
        # torch loads its forward-mode rules through a function that it has itself deprecated.
        warnings.simplefilter("ignore", DeprecationWarning)
        for name, clause in CLAUSES.items():
            try:
                clause(subject)
            except Exception as error:
                raise AssertionError(f'{type(module).__name__} breaks the clause "{name}": {error}') from error
