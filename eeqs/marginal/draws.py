r"""Designs of latent draws: how many an observation gets, and which of them are independent of each other.

K draws come in G groups of m = K / G. Groups are independent, whatever the scheme; the draws inside a group may depend
on each other so that their average varies less. A score that multiplies a residual by an instrument takes the two from
different groups, and so cannot share a draw between them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from eeqs.marginal.laws import STANDARD_NORMAL, LatentLaw

__all__ = ["Draws", "Scheme", "antithetic", "as_draws", "iid", "shifted_grid", "sobol"]

Scheme: TypeAlias = Callable[[int, int, int, torch.Generator, torch.device], Tensor]
"""``scheme(sets, size, dim, generator, device) -> u``: independent sets of uniforms (sets, size, dim), float64 strictly
inside (0, 1), each of them marginally uniform."""

# Binary digits of a Sobol point in torch.quasirandom, and of what is added below them: together they are exact.
_NET_DIGITS, _BELOW = 30, 22
_LEAST = 2.0**-53
_MOST_SOBOL_DIMENSIONS = torch.quasirandom.SobolEngine.MAXDIM


@dataclass(frozen=True)
class Draws:
    """A design of K = ``groups * size`` draws an observation.

    Attributes
    ----------
    groups : int
        Groups G, independent of each other.
    size : int
        Draws m in a group.
    scheme : callable
        How the draws of one group are made; see `Scheme`. A scheme of one's own is a function like `iid`'s.
    name : str
        For tables.
    """

    groups: int
    size: int
    scheme: Scheme
    name: str

    def __post_init__(self) -> None:
        if self.groups < 1 or self.size < 1:
            raise ValueError(f"{self.groups} groups of {self.size} draws; both must be at least 1.")

    def __len__(self) -> int:
        return self.groups * self.size

    def __str__(self) -> str:
        return f"{self.name}, {self.groups} x {self.size}"

    def shape(self, dim: int) -> tuple[int, ...]:
        """Shape of the draws of one observation: (K, q) if all are independent, else (G, m, q)."""
        return (self.groups, dim) if self.size == 1 else (self.groups, self.size, dim)

    def sample(
        self,
        n: int,
        dim: int,
        generator: torch.Generator,
        *,
        law: LatentLaw = STANDARD_NORMAL,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Draw for n observations.

        Parameters
        ----------
        n, dim : int
            Observations n, latent dimension q.
        generator : torch.Generator
            The only source of randomness; None is refused, so that nothing reads the global state by accident.
        law : LatentLaw
            Law of one latent entry.
        dtype : torch.dtype
        device : torch.device or str, optional
            Defaults to the generator's.

        Returns
        -------
        Tensor of shape (n, K, q), or (n, G, m, q) if draws inside a group depend on each other

        Raises
        ------
        ValueError
            If n is not positive, or the scheme cannot fill so many dimensions.
        TypeError
            If ``generator`` is not a torch.Generator.
        """
        if n < 1:
            raise ValueError(f"n = {n}; draw for at least one observation.")
        if not isinstance(generator, torch.Generator):
            raise TypeError(f"generator is a {type(generator).__name__}; pass torch.Generator().manual_seed(seed).")
        where = torch.device(device) if device is not None else generator.device
        shape = (n, *self.shape(dim))
        if self.scheme is _independent:
            return law.sample(shape, generator, dtype, where)
        u = self.scheme(n * self.groups, self.size, dim, generator, where)
        return law.quantile(u).to(dtype).reshape(shape)


def as_draws(draws: int | Draws) -> Draws:
    """Design of a number of draws: independent ones."""
    return draws if isinstance(draws, Draws) else iid(draws)


def iid(n_draws: int, groups: int | None = None) -> Draws:
    """Independent draws.

    Parameters
    ----------
    n_draws : int
        Draws K an observation.
    groups : int, optional
        Groups, of K / G draws each, for a score that wants few of them; K groups of one by default.

    Raises
    ------
    ValueError
        If a number is not positive, or K is not a multiple of G.
    """
    groups = n_draws if groups is None else groups
    return Draws(groups, _group_size(n_draws, groups), _independent, "iid")


def antithetic(n_draws: int, groups: int | None = None) -> Draws:
    r"""Pairs of mirrored draws, the quantiles of u and of 1 - u: z and -z for a symmetric law.

    Odd parts of an integrand cancel within a pair. Groups are of whole pairs.

    Parameters
    ----------
    n_draws : int
        Draws K an observation, even.
    groups : int, optional
        Groups; K / 2 of one pair each by default.

    Raises
    ------
    ValueError
        If K is odd, or the groups do not hold whole pairs.

    References
    ----------
    Hammersley & Morton (1956) Proceedings of the Cambridge Philosophical Society 52.
    """
    groups = n_draws // 2 if groups is None else groups
    size = _group_size(n_draws, groups)
    if size % 2:
        raise ValueError(f"{n_draws} draws in {groups} groups are {size} a group; pairs need an even number there.")
    return Draws(groups, size, _mirrored, "antithetic")


def sobol(n_draws: int, groups: int = 2) -> Draws:
    r"""Randomised quasi-Monte Carlo: a scrambled Sobol net, shifted for every observation and group on its own.

    Averages of smooth functions over a net of m points err by order :math:`m^{-1}` and less, against :math:`m^{-1/2}`.
    The digital shift makes every point uniform and the groups independent.

    Parameters
    ----------
    n_draws : int
        Draws K an observation.
    groups : int
        Groups; two by default.

    Raises
    ------
    ValueError
        If a group's size is not a power of two, for which a Sobol net is balanced.

    References
    ----------
    Owen (1997) Annals of Statistics 25; L'Ecuyer & Lemieux (2002) for digital shifts.
    """
    size = _group_size(n_draws, groups)
    if size & (size - 1):
        raise ValueError(f"{n_draws} draws in {groups} groups are {size} a group; a Sobol net needs a power of two.")
    return Draws(groups, size, _shifted_net, "Sobol")


def shifted_grid(n_draws: int, groups: int = 2) -> Draws:
    r"""Stratified draws of one latent dimension: an even grid with a random shift for every observation and group.

    The systematic sample :math:`u_j = (j / m + U) \bmod 1`; the best net there is for q = 1.

    Parameters
    ----------
    n_draws : int
        Draws K an observation.
    groups : int
        Groups; two by default.

    References
    ----------
    Cranley & Patterson (1976) SIAM Journal on Numerical Analysis 13.
    """
    return Draws(groups, _group_size(n_draws, groups), _systematic, "grid")


def _group_size(n_draws: int, groups: int) -> int:
    if n_draws < 1 or groups < 1 or n_draws % groups:
        raise ValueError(f"{n_draws} draws do not fill {groups} groups evenly; pass a multiple, both at least 1.")
    return n_draws // groups


def _uniform(shape: tuple[int, ...], generator: torch.Generator, device: torch.device, digits: int = 52) -> Tensor:
    """Odd multiples of 2^-(digits + 1): never 0 or 1, and neither is 1 - u, which is exact."""
    cell = torch.randint(2**digits, shape, generator=generator, device=device)
    return (cell.double() + 0.5) / 2**digits


def _independent(sets: int, size: int, dim: int, generator: torch.Generator, device: torch.device) -> Tensor:
    return _uniform((sets, size, dim), generator, device)


def _mirrored(sets: int, size: int, dim: int, generator: torch.Generator, device: torch.device) -> Tensor:
    u = _uniform((sets, size // 2, dim), generator, device)
    return torch.cat([u, 1 - u], dim=1)


def _systematic(sets: int, size: int, dim: int, generator: torch.Generator, device: torch.device) -> Tensor:
    if dim > 1:
        raise ValueError(f"a grid of one dimension cannot fill {dim} latent dimensions; use sobol.")
    u = _uniform((sets, 1, dim), generator, device, _BELOW)
    # Clamped, for rounding could reach an end of the interval.
    grid = torch.arange(size, dtype=torch.float64, device=device)[:, None] / size
    return ((grid + u) % 1).clamp(_LEAST, 1 - _LEAST)


def _shifted_net(sets: int, size: int, dim: int, generator: torch.Generator, device: torch.device) -> Tensor:
    if dim > _MOST_SOBOL_DIMENSIONS:
        raise ValueError(f"Sobol nets have up to {_MOST_SOBOL_DIMENSIONS} dimensions, not {dim}; use antithetic draws.")
    if dim == 0:
        return torch.empty(sets, size, 0, dtype=torch.float64, device=device)
    seed = int(torch.randint(2**31, (), generator=generator, device=generator.device))
    engine = torch.quasirandom.SobolEngine(dim, scramble=True, seed=seed)
    net = (engine.draw(size, dtype=torch.float64) * 2**_NET_DIGITS).long().to(device)
    # The exclusive or of all digits with random ones keeps a net a net; what lies below the last digit is random too.
    shift = torch.randint(2**_NET_DIGITS, (sets, 1, dim), generator=generator, device=device)
    below = _uniform((sets, size, dim), generator, device, _BELOW)
    return ((net ^ shift).double() + below) / 2**_NET_DIGITS
