"""What every kernel promises, as one check that anyone can run on a kernel of their own."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from eeqs.marginal import parameters
from eeqs.marginal.laws import LatentLaw
from eeqs.marginal.module_clauses import CLAUSES, DTYPES, Clause, embeddings, require
from eeqs.marginal.protocols import ContinuousKernel, Kernel

__all__ = ["check_kernel"]

# Up to this many classes observations are contiguous in memory; see eeqs.marginal.layout.
_SMALL_V = 64


def check_kernel(kernel: nn.Module, generator: torch.Generator | None = None) -> None:
    """Check a kernel against every clause of its contract; the kernel is left as it is.

    Both kinds: *shapes* (leading axes of any number, each embedding on its own), *dtypes*, *derivatives* (first and
    second, in every nesting of forward and reverse mode, against differences), *vmap* (over embeddings and over
    parameters, of values and gradients), *extremes* (embeddings of size 1e4 give finite values and derivatives),
    *labels*, *state* and *purity*. On classes also *protocol*, *layout* and *normalisation*; for a real response
    *protocol*, *broadcasting* and *density* (its integral up to a simulated response is the level of the noise).

    Parameters
    ----------
    kernel : torch.nn.Module
        A `Kernel` on classes, or a `ContinuousKernel`.
    generator : torch.Generator, optional
        For the points at which it is evaluated, on the device of the kernel; a fixed one on the CPU by default.

    Raises
    ------
    AssertionError
        Naming the clause that is broken, with the cause chained to it.

    Examples
    --------
    >>> import torch
    >>> from eeqs.marginal.kernels import Softmax
    >>> check_kernel(Softmax(torch.randn(4, 3, generator=torch.Generator().manual_seed(0))))
    """
    rng = generator or torch.Generator().manual_seed(0)
    continuous = getattr(kernel, "n_classes", 0) is None
    subject = copy.deepcopy(kernel)
    _run("protocol", _continuous_protocol if continuous else _categorical_protocol, subject, rng)
    _run("labels", _labels, subject, rng)
    subject = subject.double().requires_grad_(True)
    outputs = _Outputs(subject) if continuous else subject
    for name, clause in CLAUSES.items():
        _run(name, clause, outputs, rng)
    for name, clause in (_CONTINUOUS if continuous else _CATEGORICAL).items():
        _run(name, clause, subject, rng)


class _Outputs(nn.Module):
    """Log-density of one response, and the response to one noise, as the two outputs of a continuous kernel."""

    def __init__(self, kernel: Any) -> None:
        super().__init__()
        self.kernel = kernel
        self.dim, self.n_classes = kernel.dim, 2

    def forward(self, e: Tensor) -> Tensor:
        half = e.new_full((), 0.5)
        return torch.stack([self.kernel.log_density(e, half), self.kernel.response(e, half)], dim=-1)


def _run(name: str, clause: Clause, kernel: Any, generator: torch.Generator) -> None:
    try:
        clause(kernel, generator)
    except Exception as error:
        subject = kernel.kernel if isinstance(kernel, _Outputs) else kernel
        raise AssertionError(f'{type(subject).__name__} breaks the clause "{name}": {error}') from error


def _categorical_protocol(kernel: Any, _generator: torch.Generator) -> None:
    require(isinstance(kernel, nn.Module) and isinstance(kernel, Kernel), "not a torch module with dim and n_classes")
    require(kernel.dim >= 1 and kernel.n_classes >= 2, f"dim is {kernel.dim} and n_classes {kernel.n_classes}")


def _continuous_protocol(kernel: Any, _generator: torch.Generator) -> None:
    require(
        isinstance(kernel, nn.Module) and isinstance(kernel, ContinuousKernel),
        "n_classes is None, but it is not a torch module with dim, noise_law, log_density and response",
    )
    require(isinstance(kernel.noise_law, LatentLaw), f"noise_law is a {type(kernel.noise_law).__name__}")


def _labels(kernel: nn.Module, _generator: torch.Generator) -> None:
    free = copy.deepcopy(kernel).requires_grad_(True)
    found, size = parameters.labels(free), len(parameters.flatten(free))
    require(len(found) == size, f"{len(found)} labels for {size} parameters")
    require(len(set(found)) == size, f"labels repeat: {found}")


def _layout(kernel: Any, generator: torch.Generator) -> None:
    axis = -2 if kernel.n_classes <= _SMALL_V else -1
    stride = kernel(embeddings(kernel, generator, 4, 50)).stride()
    what = "observations" if axis == -2 else "classes"
    require(stride[axis] == 1, f"{what} are not contiguous for {kernel.n_classes} classes: strides {stride}")


def _normalisation(kernel: Any, generator: torch.Generator) -> None:
    for dtype in DTYPES:
        log_p = copy.deepcopy(kernel).to(dtype)(embeddings(kernel, generator, 3, 50).to(dtype)).double()
        worst = float((log_p.detach().exp().sum(dim=-1) - 1).abs().max())
        require(worst < torch.finfo(dtype).eps ** 0.5, f"probabilities in {dtype} miss a sum of one by {worst:.1e}")


def _broadcasting(kernel: Any, generator: torch.Generator) -> None:
    e, y = embeddings(kernel, generator, 5), embeddings(kernel, generator, 3, 5)[..., 0]
    for method in (kernel.log_density, kernel.response):
        torch.testing.assert_close(method(e, y), torch.stack([method(e, row) for row in y]))


def _density(kernel: Any, generator: torch.Generator) -> None:
    level = torch.linspace(-18, 18, 4001, dtype=torch.float64, device=generator.device).sigmoid()[:, None]
    e = embeddings(kernel, generator, 5)
    y = kernel.response(e, kernel.noise_law.quantile(level))
    require((y.diff(dim=0) > 0).all(), "the response does not increase in its noise")
    mass = torch.cumulative_trapezoid(kernel.log_density(e, y).exp(), y, dim=0)
    worst = float((mass - level[1:]).detach().abs().max())
    require(worst < 1e-4, f"integral of the density and level of the noise differ by {worst:.1e}")


_CATEGORICAL: dict[str, Clause] = {"layout": _layout, "normalisation": _normalisation}
_CONTINUOUS: dict[str, Clause] = {"broadcasting": _broadcasting, "density": _density}
