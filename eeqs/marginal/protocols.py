"""What a perturbation and a kernel must provide; both are torch modules."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

from eeqs.marginal.laws import LatentLaw

__all__ = ["ContinuousKernel", "Kernel", "Labelled", "Perturbation"]


@runtime_checkable
class Perturbation(Protocol):
    """A learnable map g(e, z) of embeddings and latents.

    Attributes
    ----------
    dim : int
        Embedding dimension d.
    latent_dim : int
        Latent dimension q of one position.
    latent_law : LatentLaw
        Law of z, which the model draws from and integrates over.
    """

    @property
    def dim(self) -> int: ...  # noqa: D102

    @property
    def latent_dim(self) -> int: ...  # noqa: D102

    @property
    def latent_law(self) -> LatentLaw: ...  # noqa: D102

    def __call__(self, prefix: Tensor, z: Tensor) -> Tensor:
        """Perturb ``prefix`` (..., d) by ``z`` (..., q); leading axes broadcast and the last one of the result is d.

        For sequences (..., T, d), position j of the result depends on positions up to j only.
        """
        ...


@runtime_checkable
class Kernel(Protocol):
    """A conditional law p(y | e) on classes 0..V-1.

    Attributes
    ----------
    dim : int
        Embedding dimension d.
    n_classes : int
        Number of classes V.
    """

    @property
    def dim(self) -> int: ...  # noqa: D102

    @property
    def n_classes(self) -> int: ...  # noqa: D102

    def __call__(self, e: Tensor) -> Tensor:
        """Log-probabilities (..., V) at embeddings ``e`` (..., d)."""
        ...


@runtime_checkable
class ContinuousKernel(Protocol):
    """A conditional law p(y | e) of a real response.

    Attributes
    ----------
    dim : int
        Embedding dimension d.
    n_classes : None
        Tells it from a law on classes.
    noise_law : LatentLaw
        Law of the noise u that responses are made from.
    """

    @property
    def dim(self) -> int: ...  # noqa: D102

    @property
    def n_classes(self) -> None: ...  # noqa: D102

    @property
    def noise_law(self) -> LatentLaw: ...  # noqa: D102

    def log_density(self, e: Tensor, y: Tensor) -> Tensor:
        """Log-density (...) of responses ``y`` (...) at embeddings ``e`` (..., d); leading axes broadcast."""
        ...

    def response(self, e: Tensor, u: Tensor) -> Tensor:
        """Responses (...) from noise ``u`` (...), in which they increase; leading axes broadcast."""
        ...


@runtime_checkable
class Labelled(Protocol):
    """A module that names the entries of its parameters where their position alone would not tell."""

    def parameter_labels(self) -> dict[str, tuple[str, ...]]:
        """Map the name of a parameter to the labels of its entries, in order."""
        ...
