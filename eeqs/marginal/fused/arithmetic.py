r"""Value and gradient of the cross-fitted loss in closed form, for a chunk of observations.

`eeqs.marginal.scores.cross_fitted` differentiates both of its copies and keeps a graph of them. Training needs one
derivative only, with the frozen copy detached, and that one has a closed form that is computed here along with the
value, over a few observations at a time. With :math:`p_k` the softmax of draw k, :math:`\bar p_g` the mean of the
:math:`p_k` in group g and :math:`\hat q_{-g}` the mean of the other groups',

.. math::

    L = -\frac1G \sum_g \sum_v (1\{y=v\} - \bar p_g(v)) \log \hat q_{-g}(v), \qquad
    \frac{\partial L}{\partial x_k(v)} = -\frac{p_k(v)}{K} \Bigl(s_g(v) - \sum_u p_k(u) s_g(u)\Bigr),

.. math::

    s_g(v) = \sum_{h \ne g} \frac{1\{y=v\} - \bar p_h(v)}{\sum_{i \ne h} \bar p_i(v)}, \qquad k \in g.

Of the sums over all groups but one none is a difference, so each is accurate to rounding however small it is against
the one left out. Probabilities serve as long as they are far from underflow. A ratio of two that are not matters only
where one group puts a mass on a class that all others all but exclude, or where all exclude the response: those
observations are evaluated in log space.
"""

from __future__ import annotations

import torch
from torch import Tensor

from eeqs.marginal.estimating import equal_log_weights
from eeqs.marginal.layout import pool_groups
from eeqs.marginal.scores import cross_fitted

__all__ = ["evaluate_chunk"]


def evaluate_chunk(x: Tensor, y: Tensor, p: Tensor, work: Tensor, scale: float | None) -> Tensor:
    """Return the losses (R,) of logits (K, R, V); leave ``scale`` times their gradient in ``p``, unless it is None.

    ``work`` (2, G, R, V) is overwritten.
    """
    others, spare = work
    groups = len(others)
    for draw, logits in zip(p, x, strict=True):
        torch.softmax(logits, dim=-1, dtype=p.dtype, out=draw)
    members = p.unflatten(0, (groups, -1))
    # Sums over a group stand for means: a factor common to all groups cancels from every ratio and, because residuals
    # sum to zero, from the value.
    total = members[:, 0] if members.shape[1] == 1 else members.sum(dim=1)
    limits = torch.finfo(p.dtype)
    _leave_one_out(total, others, limits.tiny)
    hit = y.expand(groups, -1)[..., None]
    others_hit = others.gather(-1, hit)
    torch.log(others, out=spare)
    loss = (spare.mul_(total).sum(dim=-1) / members.shape[1] - others_hit[..., 0].log()).mean(dim=0)

    ratio = torch.div(total, others, out=others)
    # Underflow, and the floor, cost a sum of other groups up to G * tiny. What a probability times a ratio to that
    # sum loses is then at most G * eps / 64.
    most = limits.eps / limits.tiny / 64
    underflown = (ratio.amax(dim=-1).amax(dim=0) > most) | (others_hit.amin(dim=0)[:, 0] < 1 / most)
    if scale is not None:
        ratio.scatter_add_(-1, hit, -members.shape[1] / others_hit)
        _leave_one_out(ratio, spare, 0.0)
        _finish(members, spare, scale / len(x), ratio)
    if bool(underflown.any()):
        again = underflown.nonzero()[:, 0]
        loss[again], exact = _in_log_space(x[:, again].to(p.dtype), y[again], groups, scale)
        if exact is not None:
            p[:, again] = exact
    return loss


def _finish(members: Tensor, s: Tensor, scale: float, work: Tensor) -> None:
    """Replace probabilities p (G, m, R, V) by ``scale`` * p_k * (s_g - sum_v p_k s_g)."""
    zero = torch.zeros((), dtype=s.dtype, device=s.device)
    for draw in members.unbind(1):
        torch.addcmul(zero, draw, s, value=scale, out=work)
        torch.addcmul(work, draw, work.sum(dim=-1, keepdim=True), value=-1, out=draw)


def _leave_one_out(parts: Tensor, out: Tensor, floor: float) -> None:
    """Set ``out[k]`` to ``floor`` plus all ``parts`` (G, ...) but the k-th; O(G) sums, no other memory.

    A tree: pairs of parts are left out, in half of ``out``, and then the other one of each pair is added again.
    """
    half, odd = divmod(len(parts), 2)
    first, second = parts[:half], parts[half : 2 * half]
    if not half:
        out.fill_(floor)
        return
    low, high = out[:half], out[half : 2 * half]
    _leave_one_out(torch.add(first, second, out=high), low, floor)
    torch.add(low, first, out=high)
    low.add_(second)
    if odd:
        torch.sum(parts[:-1], dim=0, out=out[-1]).add_(floor)
        out[:-1].add_(parts[-1])


def _in_log_space(x: Tensor, y: Tensor, groups: int, scale: float | None) -> tuple[Tensor, Tensor | None]:
    """Losses (R,) of logits (K, R, V) and ``scale`` times their gradient, by the definition."""
    with torch.set_grad_enabled(scale is not None):
        live = x.requires_grad_(scale is not None)
        log_p = pool_groups(torch.log_softmax(live, dim=-1), len(x) // groups)
        loss = cross_fitted.loss(log_p, log_p.detach(), y, equal_log_weights(groups, log_p))
        if scale is None:
            return loss, None
        (gradient,) = torch.autograd.grad(loss.sum() * scale, live)
    return loss.detach(), gradient
