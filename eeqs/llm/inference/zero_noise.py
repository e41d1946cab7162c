r"""A one-sided test that a language model needs no noise, on documents.

The law depends on a scale :math:`\sigma` through the variance :math:`v = \sigma^2`, and the score in v at zero is

.. math:: s_t = \frac{1}{2\, p(y_{t+1} \mid s)}
                \frac{\partial^2}{\partial \sigma^2} E_z\, p(y_{t+1} \mid g(s, z; \sigma)) \Big|_{\sigma = 0},

see `eeqs.marginal.boundary`. A prefix of t tokens has t q latents, too many to take the mean over z exactly, so it is
estimated from K draws of random signs (Hutchinson 1990). The second derivative of :math:`\sum_v p(v)` is zero, hence
under the hypothesis the score of every single draw has mean zero given the prefix: few draws cost power, never size.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import special
from torch import Tensor, nn

from eeqs.engine.data import as_sample
from eeqs.engine.errors import DataError
from eeqs.engine.inference import HypothesisTest
from eeqs.llm.inference.derivatives import twice_differentiable
from eeqs.llm.inference.psi import Text, frozen_copy, hidden_states, read_text
from eeqs.llm.inference.stream import DOCUMENT, Corpus, document_stream
from eeqs.llm.perturbed import IGNORED, PerturbedLM
from eeqs.marginal.boundary.chi_bar import chi_bar_tail, cone_statistic
from eeqs.marginal.boundary.null_score import require_scale
from eeqs.marginal.draws import iid
from eeqs.marginal.laws import RADEMACHER, LatentLaw

__all__ = ["variance_scores", "zero_noise_test"]


def zero_noise_test(
    model: PerturbedLM, corpus: Corpus, *, draws: int = 16, seed: int = 0, batch_size: int = 32
) -> HypothesisTest:
    r"""Test that all noise scales are zero, against some being positive, with documents as clusters.

    With :math:`s_g` (m,) the sum of the scores of the variances over the tokens of document g of G,

    .. math:: T = G^{-1/2} \sum_g s_g, \qquad \Omega = \frac1G \sum_g s_g s_g^\top.

    One scale is tested by the upper normal tail of :math:`T / \Omega^{1/2}`, several by the chi-bar-square statistic of
    `eeqs.marginal.boundary.scale_test`.

    Parameters
    ----------
    model : PerturbedLM
        With a perturbation that is linear in its one learnable parameter ``scale``, the standard deviations, such as
        ``Gaussian(dim, scale=0.1)``; the value is not used.
    corpus : Rows, or callable returning an iterable of Rows
    draws : int
        Draws K of signs a position.
    seed : int
        Of the signs.
    batch_size : int
        Windows evaluated at once.

    Returns
    -------
    HypothesisTest
        A small p-value says that more spread predictions fit better. A kernel that is too sure of itself, for instance
        on documents unlike those it was trained on, does that too: the hypothesis is that the kernel without noise
        holds.

    Raises
    ------
    ValueError
        If the perturbation has other learnable parameters, its latent law has a mean, or it has more than eight scales.
    DataError
        If there are fewer than two documents, or they do not fit the model.
    """
    scores = variance_scores(model, corpus, draws=draws, seed=seed, batch_size=batch_size)
    count, m = scores.shape
    if count < 2:
        raise DataError("there is one document; a test by document needs two or more.")
    total, omega = scores.sum(axis=0) / count**0.5, scores.T @ scores / count
    if m == 1:
        z = float(total[0] / omega[0, 0] ** 0.5)
        return HypothesisTest("one-sided score by document, normal", z, 1, float(special.ndtr(-z)))
    statistic = cone_statistic(total, omega)
    return HypothesisTest(
        f"one-sided score by document, chi-bar-square({m})", statistic, m, chi_bar_tail(statistic, omega)
    )


def variance_scores(
    model: PerturbedLM, corpus: Corpus, *, draws: int = 16, seed: int = 0, batch_size: int = 32
) -> np.ndarray:
    """Scores of the variances at zero, (G, m): one row a document, in the order of their first windows.

    Parameters
    ----------
    model, corpus, draws, seed, batch_size
        As in `zero_noise_test`.
    """
    m = require_scale(model)  # type: ignore[arg-type]  # a Marginal or not, the perturbation is what it reads
    fixed = frozen_copy(model)
    signs = _Signs(fixed.perturbation.latent_dim)
    spread = _spread(fixed.perturbation.latent_law)
    sums: dict[str, np.ndarray] = {}
    for batch in document_stream(corpus, signs, iid(draws), seed=seed, batch_size=batch_size)():
        columns = {name: batch[name] for name in ("input_ids", "labels", "z")}
        text = read_text(fixed, draws, as_sample(columns).leaves)
        text = text._replace(z=spread * text.z)
        for name, value in zip(batch[DOCUMENT], _window_scores(fixed, m, text).numpy(force=True), strict=True):
            sums[name] = sums.get(name, 0.0) + value
    return np.stack(list(sums.values()))


class _Signs(nn.Module):
    """What `document_stream` asks of a perturbation, for random signs."""

    latent_law: LatentLaw = RADEMACHER

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = self.latent_dim = dim

    def forward(self, prefix: Tensor, z: Tensor) -> Tensor:
        return prefix + z


def _spread(law: LatentLaw) -> float:
    """Return the standard deviation of a latent entry, whose mean is zero."""
    points, log_weight = law.quadrature(8, 1)
    return float((log_weight.exp() @ points[:, 0].square()).sqrt())


def _window_scores(model: PerturbedLM, m: int, text: Text) -> Tensor:
    """Scores (b, m) of windows: the second derivative of p over p from those of log p, along one scale at a time."""
    kept = text.targets != IGNORED
    y = text.targets[kept]

    def log_p(scale: Tensor) -> Tensor:
        hidden = hidden_states(model, scale.expand(len(kept), -1), text)
        law = model.backend.logits(hidden).log_softmax(dim=-1)
        return law.gather(-1, y.expand(len(hidden), -1)[:, :, None])[:, :, 0]

    def slope(scale: Tensor, axis: Tensor) -> Tensor:
        along: Tensor = torch.func.jvp(log_p, (scale,), (axis,))[1]
        return along

    columns = []
    for axis in torch.eye(m).to(text.z):
        with torch.no_grad(), twice_differentiable():
            first, second = torch.func.jvp(lambda at, axis=axis: slope(at, axis), (torch.zeros_like(axis),), (axis,))[
                :2
            ]
        values = torch.zeros(kept.shape, dtype=first.dtype, device=first.device)
        values[kept] = (second + first.square()).mean(dim=0) / 2
        columns.append(values.sum(dim=1))
    return torch.stack(columns, dim=1)
