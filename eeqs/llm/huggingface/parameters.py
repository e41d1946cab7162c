"""Parameters of a perturbed model in two blocks, also inside adapters and wrappers for training."""

from __future__ import annotations

from torch import nn

from eeqs.llm.perturbed import PerturbedLM

__all__ = ["kernel_parameters", "perturbation_parameters"]


def perturbation_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Phi: the parameters of the perturbation.

    Parameters
    ----------
    model : torch.nn.Module
        A `PerturbedCausalLM` or `eeqs.llm.PerturbedLM`, or anything that holds one: a peft model, a wrapper of
        distributed training.

    Raises
    ------
    TypeError
        If it does not hold exactly one perturbed model.
    """
    found = [module for module in model.modules() if isinstance(module, PerturbedLM)]
    if len(found) != 1:
        raise TypeError(
            f"{type(model).__name__} holds {len(found)} perturbed models; pass what eeqs.llm.huggingface.perturb gave."
        )
    perturbation = found[0].perturbation
    assert isinstance(perturbation, nn.Module)  # noqa: S101 - checked on construction
    return list(perturbation.parameters())


def kernel_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Theta: all other parameters, those of adapters included; see `perturbation_parameters`."""
    phi = {id(parameter) for parameter in perturbation_parameters(model)}
    return [parameter for parameter in model.parameters() if id(parameter) not in phi]
