r"""The marginal model :math:`q(y \mid x) = E_z\, p(y \mid g(x, z))`."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from eeqs.engine.psi import EstimatingFunction
from eeqs.marginal import parameters
from eeqs.marginal.checks import check_embeddings, check_latents, require_classes
from eeqs.marginal.draws import Draws, as_draws
from eeqs.marginal.estimating import estimating_function
from eeqs.marginal.layout import observations_last
from eeqs.marginal.predicting import mixture, simulated
from eeqs.marginal.protocols import ContinuousKernel, Kernel, Perturbation
from eeqs.marginal.reading import Read
from eeqs.marginal.scores import Score
from eeqs.marginal.training import surrogate_loss

__all__ = ["Marginal"]


class Marginal(nn.Module):
    r"""A kernel whose input is perturbed by a latent that is averaged over.

    .. math:: q(y \mid x) = E_z\, p(y \mid g(x, z)), \qquad z \sim \nu.

    Parameters
    ----------
    perturbation : Perturbation
        The map g, a torch module; declares the law nu of its latent.
    kernel : Kernel or ContinuousKernel
        The conditional law p on V classes, or of a real response; a torch module.

    Raises
    ------
    TypeError
        If either is not a module with the attributes of its protocol.
    ValueError
        If their embedding dimensions differ, or the perturbation reads positions of a sequence.

    Notes
    -----
    The learnable parameters (``requires_grad``) of both make up theta, perturbation first; freeze a part with
    ``requires_grad_(False)``. Methods with an argument ``theta`` (p,) evaluate the model there instead of at the
    values the modules hold.

    Examples
    --------
    >>> import torch, eeqs
    >>> from eeqs.marginal import Gaussian, Marginal, Softmax, cross_fitted
    >>> weight = torch.tensor([[2.0, 0.0], [-1.0, 2.0], [-1.0, -2.0]], dtype=torch.float64)
    >>> model = Marginal(Gaussian(2, log_scale=0.0), Softmax(weight).requires_grad_(False))
    >>> generator = torch.Generator().manual_seed(1)
    >>> x = torch.randn(2000, 2, generator=generator, dtype=torch.float64)
    >>> data = model.sample(x, 8, generator)
    >>> eeqs.estimate(model.psi(cross_fitted, draws=8), data).solution.converged
    True
    """

    perturbation: Any
    kernel: Any

    def __init__(self, perturbation: Perturbation, kernel: Kernel | ContinuousKernel) -> None:
        super().__init__()
        response = Kernel if getattr(kernel, "n_classes", 0) is not None else ContinuousKernel
        for role, part, protocol in (("perturbation", perturbation, Perturbation), ("kernel", kernel, response)):
            if not (isinstance(part, nn.Module) and isinstance(part, protocol)):
                raise TypeError(
                    f"{role} is a {type(part).__name__}; pass a torch module that satisfies "
                    f"eeqs.marginal.protocols.{protocol.__name__}."
                )
        if perturbation.dim != kernel.dim:
            raise ValueError(
                f"the perturbation has dim {perturbation.dim} but the kernel {kernel.dim}; make them equal."
            )
        if getattr(perturbation, "sequence", False):
            raise ValueError(
                f"{type(perturbation).__name__} reads positions of a sequence, and the rows of a marginal model are "
                "observations; make it with sequence=False (PerToken with one position)."
            )
        self.perturbation = perturbation
        self.kernel = kernel

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the entries of theta; those of the kernel start with ``kernel.``."""
        return parameters.labels(self)

    @property
    def theta(self) -> Tensor:
        """Current values of the learnable parameters, (p,) in float64."""
        return parameters.flatten(self)

    def with_theta(self, theta: Tensor) -> Marginal:
        """Copy of the model whose learnable parameters hold ``theta`` (p,)."""
        pieces = parameters.unflatten(self, theta.detach())
        model = copy.deepcopy(self)
        for name, value in parameters.learnable(model).items():
            value.data.copy_(pieces[name])
        return model

    @property
    def continuous(self) -> bool:
        """Whether the response is a real number, and not a class."""
        return self.kernel.n_classes is None

    @property
    def latent_dim(self) -> int:
        """Length of a draw: the latent of the perturbation and, for a continuous response, one entry for its noise."""
        return int(self.perturbation.latent_dim) + self.continuous

    def forward(self, prefix: Tensor, z: Tensor, read: Read | None = None) -> Tensor:
        """Log-probabilities (K, n, V), or what ``read`` takes of the kernel, without the checks of `log_prob`.

        A leading axis 1 in ``z`` (1, K, q) shares its draws among all observations.
        """
        perturbed = self.perturbation(observations_last(prefix), z.movedim(0, -1).contiguous().mT)
        return self.kernel(perturbed) if read is None else read(self.kernel, perturbed)

    def evaluate(self, prefix: Tensor, z: Tensor, theta: Tensor | None, read: Read | None = None) -> Tensor:
        """`forward` at ``theta``, as a function that torch.func can transform; None means the current values."""
        if theta is None:
            return self(prefix, z, read)
        return torch.func.functional_call(self, parameters.unflatten(self, theta), (prefix, z, read))

    def log_prob(self, prefix: Tensor, z: Tensor, theta: Tensor | None = None) -> Tensor:
        """Log-probabilities of every class given every draw.

        Parameters
        ----------
        prefix : Tensor of shape (n, d)
            Embeddings.
        z : Tensor of shape (n, K, q) or (n, G, m, q)
            Latent draws.
        theta : Tensor of shape (p,), optional

        Returns
        -------
        Tensor of shape (K, n, V)
            Draws first; for small V a view with n contiguous in memory.

        Raises
        ------
        DataError
            If a shape does not fit the model.
        """
        require_classes(self, "log_prob")
        check_embeddings(self, prefix)
        check_latents(self, z, prefix.shape[:1])
        return self.evaluate(prefix, z.flatten(1, -2), theta)

    @torch.no_grad()
    def predict(
        self,
        prefix: Tensor,
        *,
        draws: int | Draws | None = None,
        generator: torch.Generator | None = None,
        nodes: int | None = None,
        theta: Tensor | None = None,
    ) -> Tensor:
        """Class probabilities of the mixture: the mean of probabilities, never of logits.

        Parameters
        ----------
        prefix : Tensor of shape (n, d)
        draws : int or Draws, optional
            Draws to average over, from ``generator``. Independent ones are made in blocks, a design of others at once.
        generator : torch.Generator, optional
        nodes : int, optional
            Quadrature nodes a latent dimension, instead of draws.
        theta : Tensor of shape (p,), optional

        Returns
        -------
        Tensor of shape (n, V)
            Memory does not grow with the number of draws or nodes.

        Raises
        ------
        ValueError
            Unless exactly one of ``draws`` (with its generator) and ``nodes`` is given.
        """
        require_classes(self, "predict")
        return mixture(self, prefix, draws, generator, nodes, theta)

    @torch.no_grad()
    def simulate(self, prefix: Tensor, generator: torch.Generator, theta: Tensor | None = None) -> Tensor:
        """Responses from the model: a latent for each observation, then a response given the latent.

        Parameters
        ----------
        prefix : Tensor of shape (n, d)
        generator : torch.Generator
        theta : Tensor of shape (p,), optional

        Returns
        -------
        Tensor of shape (n,)
            Classes as long, or real numbers.
        """
        check_embeddings(self, prefix)
        return simulated(self, prefix, generator, theta)

    def sample(
        self, prefix: Tensor, draws: int | Draws, generator: torch.Generator, theta: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Simulate a data set for `psi`: the embeddings, responses from the model, and draws to estimate with.

        Returns
        -------
        dict
            ``x`` (n, d), ``y`` (n,) and ``z`` (n, K, q), or (n, G, m, q) for groups of several draws; z is independent
            of the latent behind y.
        """
        y = self.simulate(prefix, generator, theta)
        return {"x": prefix, "y": y, "z": self.draw(prefix, draws, generator)}

    def psi(
        self,
        score: Score,
        *,
        draws: int | Draws | None = None,
        prefix: str = "x",
        response: str = "y",
        latent: str = "z",
    ) -> EstimatingFunction:
        """Estimating function of ``score`` for the engine, with the model's current values as its start.

        Parameters
        ----------
        score : Score
        draws : int or Draws, optional
            Draws of an observation: K independent ones, or a design such as ``sobol(16)`` of `eeqs.marginal.draws`;
            left out for a quadrature score.
        prefix, response, latent : str
            Columns of the data: embeddings (n, d), classes (n,) in 0..V-1 and the draws. Draws belong to the
            datum, so the sandwich contains the simulation variance. A quadrature score reads no draws.

        Returns
        -------
        EstimatingFunction
            Of a float64 copy of the model: later changes of its parameters do not reach it.

        Raises
        ------
        ValueError
            If the score cannot use such draws, or nothing in the model is learnable.
        """
        return estimating_function(
            self, score, None if draws is None else as_draws(draws), prefix=prefix, response=response, latent=latent
        )

    def loss(
        self, score: Score, prefix: Tensor, y: Tensor, z: Tensor | None = None, *, chunk: int | None = None
    ) -> Tensor:
        """Mean surrogate loss for stochastic-gradient training; its gradient is minus the mean of psi.

        Parameters
        ----------
        score : Score
        prefix : Tensor of shape (n, d)
        y : Tensor of shape (n,)
            Classes.
        z : Tensor of shape (n, K, q) or (n, G, m, q), optional
            Draws, from `draw`: K independent ones, or G independent groups of m; left out for a quadrature score.
        chunk : int, optional
            Observations evaluated at once. Their log-probabilities are recomputed in the backward pass, so memory
            is O(K * chunk * V); value and gradient do not change.

        Returns
        -------
        Tensor
            A scalar. For quadratic and cross_fitted its value is no risk: monitor the held-out log-score instead.

        Raises
        ------
        ValueError
            If a shape, a class or the number of draws does not fit.
        """
        return surrogate_loss(self, score, prefix, y, z, chunk)

    def draw(self, prefix: Tensor, draws: int | Draws, generator: torch.Generator) -> Tensor:
        """Latent draws (n, K, q) or (n, G, m, q) of the law the perturbation declares, in the dtype of prefix.

        For a continuous response the last entry is the noise that the kernel makes it from.
        """
        part = self.perturbation
        return as_draws(draws).sample(
            len(prefix),
            self.latent_dim,
            generator,
            law=part.latent_law.followed_by(self.kernel.noise_law) if self.continuous else part.latent_law,
            dtype=prefix.dtype,
            device=prefix.device,
        )

    def quadrature(self, nodes: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Nodes (M, q) and log-weights (M,) of the latent law, in the dtype and on the device of ``like``."""
        z, log_weight = self.perturbation.latent_law.quadrature(nodes, self.perturbation.latent_dim)
        return z.to(like), log_weight.to(like)
