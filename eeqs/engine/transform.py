r"""Other parameters for the same estimating function: transformed ones, and ones derived from them.

Both leave the root and its sandwich what the delta method says they are, without a second step: a log-variance or an
odds ratio has a symmetric interval on the scale where the normal approximation is better, and a derived parameter can
be used by a later block of `eeqs.stack`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

import torch
from torch import Tensor

from eeqs.engine.errors import PsiError
from eeqs.engine.psi import EstimatingFunction, PsiLike, as_psi
from eeqs.engine.stack import root_or_start, stack
from eeqs.engine.tree import leaves_of

__all__ = ["derive", "transform"]

Elementwise: TypeAlias = Callable[[Tensor], Tensor]

_INVERSES: Mapping[Elementwise, Elementwise] = {
    torch.log: torch.exp,
    torch.exp: torch.log,
    torch.logit: torch.sigmoid,
    torch.atanh: torch.tanh,
    torch.reciprocal: torch.reciprocal,
}

# Gap between h and a derived parameter, relative to its terms, that is rounding: 2**6 units of float64.
_ROUNDING = 2.0**-46


def transform(
    psi: PsiLike, functions: Mapping[str, Elementwise | tuple[Elementwise, Elementwise]]
) -> EstimatingFunction:
    r"""Estimate functions of parameters in their place: :math:`\psi_i(g(\varphi))`, where :math:`\theta = g(\varphi)`.

    Parameters
    ----------
    psi : EstimatingFunction
        With named parameters.
    functions : mapping of str to callable, or to a pair of callables
        For each parameter to replace, the increasing or decreasing function that makes the new parameter of it:
        ``torch.log``, ``torch.exp``, ``torch.logit``, ``torch.atanh`` or ``torch.reciprocal``. Any other function comes
        with its inverse, ``(function, inverse)``, both in torch operations. The new parameter is called
        ``log(variance[y])``.

    Returns
    -------
    EstimatingFunction
        Of the parameters :math:`\varphi`. It starts from the root of psi, where psi has a start, so that Newton runs in
        the parameters in which psi was written.

    Raises
    ------
    PsiError
        If a name is not a parameter of psi, or the inverse of a function is not known; when solved on data that put a
        parameter where its function is not defined.

    Examples
    --------
    >>> import eeqs
    >>> eeqs.transform(eeqs.moments.variance("y"), {"variance[y]": torch.log}).names
    ('mean[y]', 'log(variance[y])')
    >>> eeqs.transform(eeqs.moments.logit("y", ["x"]), {"x": torch.exp}).names  # an odds ratio
    ('Intercept', 'exp(x)')
    """
    inner = as_psi(psi)
    pairs = {_position(inner.names, name): _pair(name, function) for name, function in functions.items()}
    closed, finder, penalty = inner.mean_jacobian, inner.root, inner.penalty

    def each(theta: Tensor, side: int) -> Tensor:
        parts = theta.unbind(dim=-1)
        return torch.stack([pairs[j][side](part) if j in pairs else part for j, part in enumerate(parts)], dim=-1)

    def natural(phi: Tensor) -> Tensor:
        return each(phi, 1)

    def mean_jacobian(phi: Tensor, data: Any) -> Tensor:
        assert closed is not None  # noqa: S101 - used only then
        theta, slope = torch.func.jvp(natural, (phi,), (torch.ones_like(phi),))[:2]
        return closed(theta, data) * slope

    def root(data: Any) -> tuple[Tensor, float]:
        assert finder is not None  # noqa: S101 - used only then
        theta, residual = finder(data)
        return each(theta, 0), residual

    def start(data: Any) -> Tensor:
        phi = each(root_or_start(inner, data)[0], 0)
        for name, value in zip(names, phi.tolist(), strict=True):
            if not math.isfinite(value):
                raise PsiError(
                    f"the data put {name} at {value}, outside the range of the function; choose another one."
                )
        return phi

    names = [
        f"{getattr(pairs[j][0], '__name__', 'transformed')}({name})" if j in pairs else name
        for j, name in enumerate(inner.names)
    ]
    return replace(
        inner,
        psi=lambda phi, data: inner.psi(natural(phi), data),
        names=tuple(names),
        start=None if inner.start is None else start,
        mean_jacobian=None if closed is None else mean_jacobian,
        root=None if finder is None else root,
        linear=None,
        penalty=None if penalty is None else lambda phi: penalty(natural(phi)),
    )


def derive(psi: PsiLike, **functions: Callable[[Mapping[str, Tensor]], Tensor]) -> EstimatingFunction:
    r"""Add parameters :math:`\delta = h(\theta)` that are functions of the others, as further equations.

    Parameters
    ----------
    psi : EstimatingFunction
        With named parameters.
    **functions : callable
        ``name=h`` for a new parameter ``name``; ``h(parameters)`` gets the parameters of psi, scalar tensors by name,
        and returns a scalar tensor, in differentiable torch operations.

    Returns
    -------
    EstimatingFunction
        Of the parameters of psi and the new ones after them.

    Raises
    ------
    PsiError
        If psi has no names or has one of the new ones already, or a function does not return a scalar tensor.

    Notes
    -----
    The added rows are :math:`(h(\theta) - \delta) / s`, with the size of the terms
    :math:`s = \sum_k |\theta_k\, \partial h / \partial \theta_k| + |\delta|` held constant in derivatives, and zero
    within rounding. A factor of a row changes neither root nor sandwich. It is for the solver: equal rows have no
    standard error to measure them by, and neither the units of :math:`\delta` nor rounding must take its place.

    Examples
    --------
    >>> import eeqs
    >>> eeqs.derive(eeqs.moments.variance("y"), cv=lambda b: b["variance[y]"].sqrt() / b["mean[y]"]).names
    ('mean[y]', 'variance[y]', 'cv')
    """
    inner = as_psi(psi)
    if not inner.names or not functions:
        raise PsiError("derive() needs a psi with named parameters and at least one function of them, name=function.")
    taken = [name for name in functions if name in inner.names]
    if taken:
        raise PsiError(f'psi already has a parameter "{taken[0]}"; choose another name.')

    def values(theta: Tensor) -> Tensor:
        named = dict(zip(inner.names, theta.unbind(), strict=True))
        return torch.stack([_scalar(name, function, named) for name, function in functions.items()])

    def rows(derived: Tensor, data: Any, parameters: Tensor) -> Tensor:
        terms = torch.func.jacrev(values)(parameters).abs() @ parameters.abs()
        size = (terms + derived.abs()).detach()
        gap = (values(parameters) - derived) / torch.where(size > 0, size, 1.0)
        gap = torch.where(gap.abs() <= _ROUNDING, gap - gap.detach(), gap)
        return gap.expand(next(leaves_of(data)).shape[0], len(derived))

    added: dict[str, Any] = {
        "psi": rows,
        "names": tuple(functions),
        "columns": (),
        "prepare": lambda _, parameters: parameters,
        "start": lambda _, parameters: values(parameters),
    }
    joint = stack(parameters=inner, derived=EstimatingFunction(**added))
    return replace(joint, names=(*inner.names, *functions))


def _pair(name: str, function: Elementwise | tuple[Elementwise, Elementwise]) -> tuple[Elementwise, Elementwise]:
    if isinstance(function, tuple):
        return function
    if function not in _INVERSES:
        raise PsiError(
            f'the inverse of the transformation of "{name}" is not known; pass the pair (function, inverse).'
        )
    return function, _INVERSES[function]


def _position(names: tuple[str, ...], name: str) -> int:
    if name not in names:
        raise PsiError(f'psi has no parameter "{name}"; it has {list(names)}.')
    return names.index(name)


def _scalar(name: str, function: Callable[[Mapping[str, Tensor]], Tensor], named: Mapping[str, Tensor]) -> Tensor:
    try:
        value = function(named)
    except KeyError as error:
        raise PsiError(f'derived "{name}" asks for {error}; psi has {list(named)}.') from error
    if not isinstance(value, Tensor) or value.ndim:
        raise PsiError(f'derived "{name}" must be a scalar tensor, computed from the parameters in torch operations.')
    return value
