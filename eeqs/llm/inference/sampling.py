"""Text from the marginal law of a perturbed language model."""

from __future__ import annotations

import torch
from torch import Tensor

from eeqs.llm.perturbed import PerturbedLM

__all__ = ["sample_text"]


@torch.no_grad()
def sample_text(model: PerturbedLM, first: Tensor, length: int, generator: torch.Generator) -> Tensor:
    r"""Continue sequences by the fresh scheme: new latents for every token, then :math:`y \sim p(\cdot \mid g(e, z))`.

    Each token then has the law :math:`q(y \mid s) = E_z\, p(y \mid g(e(s), z))` given the tokens before it, which is
    what `eeqs.llm.PerturbedLM.loss` models.

    Parameters
    ----------
    model : PerturbedLM
        Evaluated as it is; call ``eval()`` where the kernel has dropout.
    first : Tensor of shape (B, t)
        Tokens to begin with, t at least 1.
    length : int
        Tokens of the result, more than t.
    generator : torch.Generator
        The only source of randomness, on the device of ``first``.

    Returns
    -------
    Tensor of shape (B, length)

    Raises
    ------
    ValueError
        If there is nothing to begin with or nothing to add.

    Notes
    -----
    The whole prefix is perturbed anew for every token, so a cache of keys and values cannot be used: a text of T
    tokens costs T passes.
    """
    if first.ndim != 2 or not 1 <= first.shape[1] < length:
        raise ValueError(f"first has shape {tuple(first.shape)}, length is {length}; pass (B, t) with 1 <= t < length.")
    part, ids = model.perturbation, first
    dtype = next((value.dtype for value in model.parameters()), torch.float32)
    while ids.shape[1] < length:
        embedded = model.backend.embed(ids)
        shape = (*ids.shape, part.latent_dim)
        z = part.latent_law.sample(shape, generator, torch.promote_types(dtype, torch.float32), ids.device)
        moved = part(embedded.to(z.dtype), z).to(embedded.dtype)
        last = model.backend.logits(model.backend.hidden(moved, None, None)[:, -1])
        new = torch.multinomial(last.double().softmax(dim=-1), 1, generator=generator)
        ids = torch.cat([ids, new], dim=1)
    return ids
