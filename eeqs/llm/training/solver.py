"""One estimating equation in training: its batches, its parameters, and a step of stochastic approximation."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from eeqs.llm.methods.method import THETA, Equation
from eeqs.llm.perturbed import IGNORED, PerturbedLM
from eeqs.llm.training.errors import TrainingError
from eeqs.llm.training.settings import Settings
from eeqs.llm.training.stream import Stream

__all__ = ["Solver", "Term"]


@dataclass(frozen=True)
class Term:
    """A model and the batches its loss is averaged over."""

    model: PerturbedLM
    stream: Stream


class Solver:
    """AdamW on the parameters of an equation.

    Parameters
    ----------
    equation : Equation
    terms : sequence of Term
        The loss is the mean over them: one for a plain equation, one a fold where folds share a perturbation.
    settings : Settings

    Attributes
    ----------
    parameters : list of Parameter
    tokens : int
        Tokens of the last step.

    Raises
    ------
    ValueError
        The model has no trainable parameters under a name of the equation.
    """

    def __init__(self, equation: Equation, terms: Sequence[Term], settings: Settings) -> None:
        self.equation, self.terms, self._settings = equation, tuple(terms), settings
        groups = []
        for prefix, rate in equation.rates.items():
            found = _trainable(terms[0].model, prefix)
            if not found:
                known = sorted({name.split(".")[0] + "." for name, p in terms[0].model.named_parameters()})
                raise ValueError(
                    f'equation "{equation.name}" is to estimate "{prefix}", of which the model has no trainable '
                    f"parameters; it has {', '.join(known) or 'none'}."
                )
            base = rate * settings.learning_rate
            for parameters, decay in _by_decay(found, settings.weight_decay if prefix.startswith(THETA) else 0.0):
                groups.append({"params": parameters, "weight_decay": decay, "base": base, "lr": base})
        self.optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.99))
        self.tokens = 0
        self.parameters: list[nn.Parameter] = [p for group in self.optimiser.param_groups for p in group["params"]]

    @property
    def passes(self) -> int:
        """Forward and backward passes of a batch that a step takes."""
        return len(self.equation.draws) * len(self.terms)

    def step(self, update: int) -> dict[str, float]:
        """Take a step; returns loss and gradient norm.

        Raises
        ------
        TrainingError
            One of them is not finite; the parameters are those before the step.
        """
        loss, self.tokens = 0.0, 0
        gradients: list[Tensor] | None = None
        for number, term in enumerate(self.terms):
            batch = next(term.stream)
            self.tokens += int(batch["attention_mask"].sum())
            with _stream_of(self.parameters[0].device, (self._settings.seed, update, number)):
                value, found = self._gradient(term.model, batch)
            loss += value / len(self.terms)
            gradients = found if gradients is None else [a + b for a, b in zip(gradients, found, strict=True)]
        assert gradients is not None  # noqa: S101 - there is a term
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient / len(self.terms)
        norm = float(nn.utils.clip_grad_norm_(self.parameters, self._settings.clip))
        if not (torch.isfinite(torch.tensor([loss, norm])).all()):
            raise TrainingError(
                f'update {update}, equation "{self.equation.name}": loss {loss:g}, norm of the gradient {norm:g}. '
                "Lower the learning rate or the clip, lengthen the warm-up, or look for the batch in the data; the "
                "last checkpoint is intact."
            )
        for group in self.optimiser.param_groups:
            group["lr"] = group["base"] * self._settings.rate(update)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        return {"loss": loss, "gradient_norm": norm}

    def optimiser_tensors(self) -> dict[str, Tensor]:
        """State of the optimiser by parameter number and name."""
        state = self.optimiser.state_dict()["state"]
        return {f"{index}.{name}": tensor for index, held in state.items() for name, tensor in held.items()}

    def load_optimiser(self, tensors: dict[str, Tensor]) -> None:
        """Put back what `optimiser_tensors` gave."""
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            index, entry = name.split(".", 1)
            state.setdefault(int(index), {})[entry] = tensor
        self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": state})

    def _gradient(self, model: PerturbedLM, batch: dict[str, Tensor]) -> tuple[float, list[Tensor]]:
        device = self.parameters[0].device
        total = (batch["labels"] != IGNORED).sum().to(device)
        rows = self._settings.micro_rows or len(batch["labels"])
        value, sums = 0.0, [torch.zeros_like(p) for p in self.parameters]
        step = model.step.clone()
        for start in range(0, len(batch["labels"]), rows):
            # All parts of a batch are one step: what is drawn does not depend on how it is cut.
            model.step.copy_(step)
            part = {name: tensor[start : start + rows].to(device) for name, tensor in batch.items()}
            with torch.autocast(device.type, torch.bfloat16, enabled=self._settings.bfloat16):
                loss = model.loss(**part, total=total, score=self.equation.score, draws=self.equation.draws)
            found = torch.autograd.grad(loss, self.parameters, allow_unused=True)
            value += float(loss.detach())
            for added, gradient in zip(sums, found, strict=True):
                if gradient is not None:
                    added.add_(gradient)
        return value, sums


@contextmanager
def _stream_of(device: torch.device, key: tuple[int, ...]) -> Iterator[None]:
    """Make what a back-end draws by itself, as for dropout, a function of a key; a resumed run then repeats it."""
    word = int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=7).digest(), "little")
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(word)
        yield


def _trainable(model: PerturbedLM, prefix: str) -> list[nn.Parameter]:
    return [p for name, p in model.named_parameters() if name.startswith(prefix) and p.requires_grad]


def _by_decay(parameters: list[nn.Parameter], decay: float) -> list[tuple[list[nn.Parameter], float]]:
    """Matrices, which decay, and the rest, which does not."""
    matrices = [p for p in parameters if p.ndim > 1]
    others = [p for p in parameters if p.ndim <= 1]
    return [(group, rate) for group, rate in ((matrices, decay), (others, 0.0)) if group]
