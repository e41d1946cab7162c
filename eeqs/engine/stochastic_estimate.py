"""The outcome of a stochastic approximation: the averaged iterate, its online intervals, and its state."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from eeqs.engine.errors import Status
from eeqs.engine.online_covariance import OnlineCovariance

__all__ = ["FAILURES", "StochasticEstimate", "method_state"]

# The codes of the failures in a state.
FAILURES = {1: Status.DIVERGED, 2: Status.NON_FINITE}


@dataclass(frozen=True, repr=False)
class StochasticEstimate:
    r"""Outcome of `eeqs.stochastic`; tensors have a leading axis R for a batch of replicates.

    Attributes
    ----------
    state : dict of str to Tensor
        Everything the recursion remembers, in tensors that own their memory: pass it as ``resume`` to go on, or save it
        with ``safetensors.torch.save_file`` or ``torch.save``. Its size does not depend on the number of steps.
    methods : tuple of OnlineCovariance
        The online covariances that were kept, the first of which is the default.
    names : tuple of str
        Parameter names, p of them.
    tolerance : float
        Largest ``residual_norm`` of a run that counts as settled.
    """

    state: dict[str, Tensor] = field(compare=False)
    methods: tuple[OnlineCovariance, ...]
    names: tuple[str, ...]
    tolerance: float

    def __repr__(self) -> str:
        replicates = f"{self.last.shape[0]} replicates" if self.last.ndim == 2 else f"theta={self.theta.tolist()}"
        failed = int((~torch.as_tensor(self.converged)).sum())
        outcome = f"{failed} failed" if self.last.ndim == 2 else str(self.status)
        return f"StochasticEstimate({replicates}, steps={self.steps}, averaged={self.averaged}, {outcome})"

    @property
    def steps(self) -> int:
        """Steps taken, over all legs of a resumed run."""
        return int(self.state["steps"])

    @property
    def averaged(self) -> int:
        """Iterates averaged, T: the steps past the burn-in."""
        return int(self.state["averaged"])

    @property
    def last(self) -> Tensor:
        """Last iterate (p,) or (R, p)."""
        return self.state["theta"]

    @property
    def theta(self) -> Tensor:
        """Mean of the iterates past the burn-in (p,) or (R, p); the last one where there is none or a run failed."""
        averaged = (self.state["failure"] == 0) & (self.averaged > 0)
        return torch.where(averaged.unsqueeze(-1), self.state["mean"], self.last)

    @property
    def residual_norm(self) -> Tensor:
        r"""Largest :math:`\sqrt T |m_j| / s_j` () or (R,), m and s the mean and root mean square of batch means of psi.

        They are those of the averaged steps, each at the iterate of its time. The ratio falls below one in a run
        that fluctuates around a root, and is many times that in one that still approaches it.
        """
        total, square = self.state["psi_sum"].abs(), self.state["psi_square"].sqrt()
        ratio = torch.where(total == 0, 0.0, total / square).amax(dim=-1)
        return ratio if self.averaged else torch.full_like(ratio, torch.inf)

    @property
    def status(self) -> Any:
        """`Status`, or a tuple of R; ``status.text`` names cause and remedy.

        ``CONVERGED`` where ``residual_norm`` is within the tolerance, ``UNSETTLED`` where it is not; ``DIVERGED`` and
        ``NON_FINITE`` where the recursion stopped, at the last iterate inside the bound.
        """
        settled = (self.residual_norm <= self.tolerance).reshape(-1).tolist()
        codes = self.state["failure"].reshape(-1).tolist()
        outcome = tuple(
            FAILURES.get(code) or (Status.CONVERGED if fine else Status.UNSETTLED)
            for code, fine in zip(codes, settled, strict=True)
        )
        return outcome if self.last.ndim == 2 else outcome[0]

    @property
    def converged(self) -> Any:
        """Whether it converged: bool, or a bool tensor of shape (R,)."""
        if isinstance(self.status, Status):
            return self.status is Status.CONVERGED
        return torch.tensor([status is Status.CONVERGED for status in self.status])

    def covariance(self, method: OnlineCovariance | None = None) -> Tensor:
        """Scale of the averaged iterate (p, p) or (R, p, p), by default of the first method; NaN where a run failed.

        A covariance for `PlugIn` and `BatchMeans`. Random scaling has a random scale instead, which serves intervals.

        Raises
        ------
        ValueError
            If the method was not kept.
        SingularBreadError
            For one run and the plug-in method, if the bread has no full rank.
        """
        method = self._known(method)
        p = len(self.names)
        valid = (self.state["failure"] == 0) & (self.averaged > 0)
        if not bool(valid.any()):
            return self.last.new_full((*self.last.shape, p), torch.nan)
        return torch.where(valid[..., None, None], method.matrix(method_state(self.state, method)), torch.nan)

    def half_width(self, level: float = 0.95, method: OnlineCovariance | None = None) -> Tensor:
        """Half the length of the intervals (p,) or (R, p); arguments and errors as in `interval`."""
        if not 0 < level < 1:
            raise ValueError(f"level is {level}; pass a number between 0 and 1, such as 0.95.")
        scale = self.covariance(method).diagonal(dim1=-2, dim2=-1).clamp_min(0).sqrt()
        return self._known(method).quantile((1 + level) / 2) * scale

    def interval(self, level: float = 0.95, method: OnlineCovariance | None = None) -> Tensor:
        """Intervals of every parameter.

        Parameters
        ----------
        level : float
            Nominal coverage, in (0, 1).
        method : OnlineCovariance, optional
            One of the methods that were kept; by default the first.

        Returns
        -------
        Tensor of shape (p, 2) or (R, p, 2)
            Lower and upper ends around the averaged iterate; NaN where a run failed.

        Raises
        ------
        ValueError
            If the level is out of range or the method was not kept.
        """
        half = self.half_width(level, method)
        return torch.stack([self.theta - half, self.theta + half], dim=-1)

    def _known(self, method: OnlineCovariance | None) -> OnlineCovariance:
        if not self.methods:
            raise ValueError("this run kept no covariance; pass covariance=(RandomScaling(),) to eeqs.stochastic.")
        if method is None:
            return self.methods[0]
        if method not in self.methods:
            raise ValueError(f"this run did not keep {method}; it kept {list(self.methods)}.")
        return method


def method_state(state: dict[str, Tensor], method: OnlineCovariance) -> dict[str, Tensor]:
    """Entries of a run's state that belong to one method, without its prefix."""
    prefix = f"{method.name}."
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
