r"""The estimating function of phi, a row a window of a document.

With the latents z a part of the datum and :math:`l_{kt}(v)` the log-probabilities of token v after position t under
draw k,

.. math:: \psi_i(\varphi) = -\nabla_b \sum_t f\big(l_{\cdot t}(b),\, l_{\cdot t}(\varphi),\, y_{t+1}\big)
                            \Big|_{b = \varphi},

f the surrogate loss of `eeqs.marginal.scores` with its live and its frozen copy. Nothing is detached: the bread
differentiates both.

The kernel is frozen, so phi enters a window through its perturbed embeddings only. Giving every window a copy of phi of
its own makes one reverse pass return the gradients of all windows, whatever the number of parameters.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from eeqs.engine.data import Leaves
from eeqs.engine.errors import DataError
from eeqs.engine.psi import EstimatingFunction
from eeqs.llm.inference.derivatives import twice_differentiable
from eeqs.llm.perturbed import IGNORED, PerturbedLM
from eeqs.marginal import parameters
from eeqs.marginal.draws import Draws, as_draws
from eeqs.marginal.estimating import equal_log_weights
from eeqs.marginal.scores import Score

__all__ = ["Text", "frozen_copy", "hidden_states", "perturbation_psi", "read_text", "token_values"]


class Text(NamedTuple):
    """Prepared windows.

    Attributes
    ----------
    input_ids : Tensor of shape (b, T)
    targets : Tensor of shape (b, T - 1)
        Next tokens, `IGNORED` where none is predicted.
    z : Tensor of shape (b, K, T, q)
    """

    input_ids: Tensor
    targets: Tensor
    z: Tensor


def perturbation_psi(
    model: PerturbedLM, score: Score | None = None, draws: int | Draws | None = None
) -> EstimatingFunction:
    """Estimating function of the learnable parameters of a perturbation, the language model frozen.

    Parameters
    ----------
    model : PerturbedLM
        Its values are the start. A float64 copy is made: later changes do not reach the estimating function.
    score : Score, optional
        The model's own by default.
    draws : int or Draws, optional
        The model's own by default.

    Returns
    -------
    EstimatingFunction
        Of columns ``input_ids`` and ``labels`` (n, T) and ``z`` (n, K, T, q), see `document_stream`; row i is the sum
        over the predicted tokens of window i. Its names are those of the parameters, such as ``log_scale``.

    Raises
    ------
    ValueError
        If nothing in the perturbation is learnable, or the score cannot use such draws.

    Notes
    -----
    The latents of a position serve all later positions of the window, as in training. Rows of one document are
    therefore dependent even where the model holds; take covariances by document.
    """
    score, design = score or model.score, model.draws if draws is None else as_draws(draws)
    if score.nodes is not None or score.simulates:
        raise ValueError(f"{score.name} needs quadrature or a real response; use cross_fitted or another on draws.")
    score.check_draws(design)
    fixed = frozen_copy(model)
    part: nn.Module = fixed.perturbation  # type: ignore[assignment]
    names, start = parameters.labels(part), parameters.flatten(part)
    if not names:
        raise ValueError(
            f"{type(part).__name__} has no learnable parameter; call requires_grad_(True) on those to estimate."
        )

    def psi(theta: Tensor, prepared: tuple[Tensor, ...]) -> Tensor:
        with twice_differentiable():
            return _psi(fixed, score, design, theta, Text(*prepared))

    return EstimatingFunction(
        psi,
        names,
        ("input_ids", "labels", "z"),
        prepare=lambda leaves: read_text(fixed, len(design), leaves),
        start=lambda prepared: start.to(prepared[0].device),
        mean_jacobian=lambda theta, prepared: _mean_jacobian(psi, theta, prepared),
    )


def frozen_copy(model: PerturbedLM) -> PerturbedLM:
    """Copy in float64 and evaluation mode, of which the perturbation alone may be learnable."""
    fixed = copy.deepcopy(model).to(torch.float64).eval()
    fixed.backend.requires_grad_(False)  # type: ignore[attr-defined]
    return fixed


def read_text(model: PerturbedLM, n_draws: int, leaves: Leaves) -> Text:
    """Turn columns into windows, or raise `DataError`."""
    assert isinstance(leaves, dict)  # noqa: S101 - for the type checker: named columns were asked for
    ids, labels, z = (leaves[name] for name in ("input_ids", "labels", "z"))
    wanted = (len(ids), n_draws, *ids.shape[1:], model.perturbation.latent_dim)
    if ids.ndim != 2 or labels.shape != ids.shape or z.shape != wanted:
        raise DataError(
            f"input_ids have shape {tuple(ids.shape)}, labels {tuple(labels.shape)}, z {tuple(z.shape)}; pass (n, T) "
            f"twice and {wanted}, as document_stream does with the draws of the estimating function."
        )
    for name, column, least in (("input_ids", ids, 0), ("labels", labels[labels != IGNORED], 0)):
        if column.numel() and (float(column.min()) < least or float(column.max()) >= model.vocab_size):
            raise DataError(
                f"{name} run from {float(column.min()):g} to {float(column.max()):g}, and the model has "
                f"{model.vocab_size} tokens; use the tokenizer of the model."
            )
    if bool((labels[:, 0] != IGNORED).any()):
        raise DataError(f"a label stands at position 0, where nothing predicts it; set it to {IGNORED}.")
    return Text(ids.long(), labels[:, 1:].long(), z)


def hidden_states(model: PerturbedLM, phi: Tensor, text: Text) -> Tensor:
    """Hidden states (K, N, h) of the N predicted tokens, each window perturbed at its own phi (b, p)."""
    part: nn.Module = model.perturbation  # type: ignore[assignment]

    def perturbed(own: Tensor, embedded: Tensor, z: Tensor) -> Tensor:
        moved: Tensor = torch.func.functional_call(part, parameters.unflatten(part, own), (embedded, z))
        return moved

    # Padding is at the end, where causal order already hides it from every token.
    states = torch.func.vmap(perturbed)(phi, model.backend.embed(text.input_ids), text.z)
    hidden = model.backend.hidden(states.flatten(0, 1), None, None).unflatten(0, text.z.shape[:2])
    return hidden.transpose(0, 1)[:, :, :-1][:, text.targets != IGNORED]


def token_values(model: PerturbedLM, score: Score, draws: Draws, theta: Tensor, text: Text) -> Tensor:
    """Psi of every predicted token (N, p), whose sums by window are the rows of `perturbation_psi`.

    What a covariance needs that takes tokens for independent; a forward pass a parameter, without a derivative of its
    own.

    Parameters
    ----------
    model : PerturbedLM
        A `frozen_copy`.
    score, draws
        As in `perturbation_psi`.
    theta : Tensor of shape (p,)
    text : Text
        From `read_text`.
    """

    def states(at: Tensor) -> Tensor:
        return hidden_states(model, at.expand(len(text.input_ids), -1), text)

    with twice_differentiable():
        slope = _slopes(model, score, draws, states(theta), text)
        moved: list[Tensor] = [torch.func.jvp(states, (theta,), (axis,))[1] for axis in torch.eye(len(theta)).to(theta)]
    return -torch.stack([(slope * along).sum(dim=(0, 2)) for along in moved], dim=1)


def _psi(model: PerturbedLM, score: Score, draws: Draws, theta: Tensor, text: Text) -> Tensor:
    copies = theta.expand(len(text.input_ids), -1)
    level, pull = torch.func.vjp(lambda own: hidden_states(model, own, text), copies)[:2]
    return -pull(_slopes(model, score, draws, level, text))[0]


def _slopes(model: PerturbedLM, score: Score, draws: Draws, hidden: Tensor, text: Text) -> Tensor:
    """Differentiate the surrogate, (K, N, h), in hidden states; log-probabilities exist a chunk at a time."""
    y = text.targets[text.targets != IGNORED]
    blocks = zip(hidden.split(model.chunk, dim=1), y.split(model.chunk), strict=True)
    return torch.cat([_slope(model.backend.logits, score, draws, *block) for block in blocks], dim=1)


def _slope(head: Callable[[Tensor], Tensor], score: Score, draws: Draws, hidden: Tensor, y: Tensor) -> Tensor:
    """Differentiate the sum of the surrogate in its live copy at hidden states (K, c, h)."""
    frozen = _log_p(head, score, draws, hidden)
    weight = equal_log_weights(score.entries(draws), frozen)

    def loss(live: Tensor) -> Tensor:
        return score.loss(_log_p(head, score, draws, live), frozen, y, weight).sum()

    slope: Tensor = torch.func.grad(loss)(hidden)
    return slope


def _log_p(head: Callable[[Tensor], Tensor], score: Score, draws: Draws, hidden: Tensor) -> Tensor:
    log_p = head(hidden).log_softmax(dim=-1)
    if score.pools and draws.size > 1:
        log_p = log_p.unflatten(0, (draws.groups, draws.size))
        log_p = log_p.logsumexp(dim=1) + equal_log_weights(draws.size, log_p)[0]
    return log_p


def _mean_jacobian(psi: Callable[[Tensor, Any], Tensor], theta: Tensor, prepared: Any) -> Tensor:
    """Mean of d psi / d phi (p, p): a forward pass a parameter, one at a time for the sake of memory."""
    columns = [
        torch.func.jvp(lambda at: psi(at, prepared).mean(dim=0), (theta,), (tangent,))[1]
        for tangent in torch.eye(len(theta)).to(theta)
    ]
    return torch.stack(columns, dim=1)
