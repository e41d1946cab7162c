"""Inference for phi on Hugging Face back-ends: psi, its bread and the score of no noise against differences."""

import numpy as np
import pytest
import torch

transformers = pytest.importorskip("transformers")

import eeqs  # noqa: E402
from eeqs.engine.data import as_sample  # noqa: E402
from eeqs.llm import PerturbedLM  # noqa: E402
from eeqs.llm.huggingface import HuggingFaceBackend  # noqa: E402
from eeqs.llm.inference import document_stream, estimate_perturbation, perturbation_psi  # noqa: E402
from eeqs.llm.inference.derivatives import twice_differentiable  # noqa: E402
from eeqs.llm.inference.psi import frozen_copy, hidden_states, read_text  # noqa: E402
from eeqs.llm.inference.zero_noise import _window_scores  # noqa: E402
from eeqs.llm.packing import Rows, pack  # noqa: E402
from eeqs.llm.tokens import TokenisedDocument  # noqa: E402
from eeqs.marginal import Gaussian  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
V, D = 20, 8


def llama() -> transformers.PreTrainedModel:
    config = transformers.LlamaConfig(
        vocab_size=V, hidden_size=D, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=32, initializer_range=0.5,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config)


def gpt2() -> transformers.PreTrainedModel:
    config = transformers.GPT2Config(
        vocab_size=V, n_embd=D, n_layer=1, n_head=2, n_positions=32, initializer_range=0.5, bos_token_id=0,
        eos_token_id=0,
    )  # fmt: skip
    return transformers.GPT2LMHeadModel(config)


def model(build: object, noise: Gaussian) -> PerturbedLM:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        kernel = build()
    return PerturbedLM(HuggingFaceBackend(kernel), noise).eval()


def rows(n: int = 12) -> Rows:
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(V, (n, 9), generator=draw)
    return pack([TokenisedDocument(f"d{k}", own[: 5 + k % 5], 9) for k, own in enumerate(ids)], 9)


def columns(of: PerturbedLM) -> dict[str, torch.Tensor]:
    (batch,) = document_stream(rows(), of.perturbation, of.draws)()
    return {name: batch[name] for name in ("input_ids", "labels", "z")}


@pytest.mark.parametrize("build", [llama, gpt2])
def test_psi_and_its_bread(build: object) -> None:
    """The mean of psi at one token of loss against `PerturbedLM`'s own pieces, its bread against differences."""
    held = model(build, Gaussian(D, log_scale=[-1.0] * D))
    psi, data = perturbation_psi(held), columns(held)
    theta = psi.start((data["z"],))
    bread, step = eeqs.bread(psi, theta, data), 1e-5
    for j in (0, 5):
        axis = step * torch.eye(D, dtype=torch.float64)[j]
        slope = (psi(theta + axis, data) - psi(theta - axis, data)).mean(dim=0) / (2 * step)
        torch.testing.assert_close(bread[:, j], slope, rtol=1e-4, atol=1e-6 * float(bread.abs().max()))


@pytest.mark.parametrize("build", [llama, gpt2])
def test_score_of_no_noise(build: object) -> None:
    held = frozen_copy(model(build, Gaussian(D, scale=0.0)))
    batch = columns(held)
    text = read_text(held, len(held.draws), as_sample(batch).leaves)
    kept, step = text.targets >= 0, 1e-3

    def p(sigma: float) -> torch.Tensor:
        scale = torch.full((len(kept), 1), sigma, dtype=torch.float64)
        with torch.no_grad(), twice_differentiable():  # without it, the normalisation rounds to float32
            law = held.backend.logits(hidden_states(held, scale, text)).softmax(dim=-1)
        return law.gather(-1, text.targets[kept].expand(len(law), -1)[..., None])[..., 0]

    second = torch.zeros(kept.shape, dtype=torch.float64)
    second[kept] = ((p(step) - 2 * p(0.0) + p(-step)) / step**2 / p(0.0) / 2).mean(dim=0)
    np.testing.assert_allclose(_window_scores(held, 1, text)[:, 0], second.sum(dim=1), rtol=1e-2, atol=1e-2)


def test_estimation_runs_from_a_float32_model() -> None:
    """A failed or a converged solve on text that the model did not make: either way a value with its status."""
    held = model(llama, Gaussian(D, log_scale=-1.0))
    fit = estimate_perturbation(held, rows(), throw=False, max_iterations=5)
    assert fit.names == ("log_scale",)
    assert torch.isfinite(fit.solution.theta).all()
