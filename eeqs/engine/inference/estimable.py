r"""Which functionals of the parameters the equations identify.

Directions t with :math:`A t = 0` leave the equations unchanged, so a functional h is estimable when its gradient is
orthogonal to all of them (Searle 1971, Linear Models, section 5.4; for nonlinear h a condition at the estimate).
Both are looked at in the units in which the bread is equilibrated: rank is a property of the equations.
"""

from __future__ import annotations

import torch
from torch import Tensor

from eeqs.engine.errors import NotEstimableError
from eeqs.engine.linalg import RANK_TOLERANCE, equilibrate

__all__ = ["estimable", "require_estimable"]

# Share of a gradient along free directions from which it counts: far above the rounding of a null direction
# (1e-12 at the rank tolerance), far below any coefficient that someone would write down.
_SHARE = 1e-8
# Share of a free direction (relative to its largest entry) from which a parameter is named.
_NAMED = 1e-3


def _along_free(bread: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients (m, p) in equilibrated units, and their projections (m, p) on the free directions."""
    scaled, _, units = equilibrate(bread)
    _, values, right = torch.linalg.svd(scaled)
    free = right[values <= RANK_TOLERANCE * values[0]]
    scaled_gradients = gradients * units
    return scaled_gradients, scaled_gradients @ free.mT @ free


def estimable(bread: Tensor, gradients: Tensor) -> Tensor:
    """Which functionals are estimable, bool (m,), by their gradients (m, p) and the bread (p, p)."""
    whole, along = _along_free(bread, gradients)
    return along.norm(dim=1) <= _SHARE * whole.norm(dim=1)


def require_estimable(bread: Tensor, gradients: Tensor, names: tuple[str, ...]) -> None:
    """Raise `NotEstimableError` for the first functional that is not estimable, naming the parameters to blame."""
    bad = (~estimable(bread, gradients)).nonzero().flatten().tolist()
    if not bad:
        return
    along = _along_free(bread, gradients)[1][bad[0]].abs()
    involved = tuple(name for name, part in zip(names, (along / along.max()).tolist(), strict=True) if part > _NAMED)
    which = "the functional" if len(gradients) == 1 else f"functional {bad[0]}"
    raise NotEstimableError(
        f"{which} is not estimable: it changes along a direction of {', '.join(involved)} that leaves every equation "
        "as it is; ask for a combination that does not, such as their sum for duplicated columns.",
        involved,
    )
