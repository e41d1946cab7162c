"""The wrapped Hugging Face model behaves like one: loss, logits, files, generation, Trainer and adapters."""

from pathlib import Path

import pytest
import torch

transformers = pytest.importorskip("transformers")

from eeqs.llm import PerturbedLM  # noqa: E402
from eeqs.llm.huggingface import HuggingFaceBackend, PerturbedCausalLM, perturb  # noqa: E402
from eeqs.marginal import Contextual, Gaussian, LowRank, antithetic, cross_fitted, iid, single_draw  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
V, D = 40, 16


def _llama(tied: bool = True, **options: object) -> transformers.PreTrainedModel:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=V, hidden_size=D, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, tie_word_embeddings=tied, pad_token_id=0, bos_token_id=1,
        eos_token_id=2, **options,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config).eval()


def _gpt2() -> transformers.PreTrainedModel:
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=V, n_embd=D, n_layer=2, n_head=2, n_positions=64, resid_pdrop=0.0)
    return transformers.GPT2LMHeadModel(config).eval()


def _capped() -> transformers.PreTrainedModel:
    """A model whose logits are no linear map of its hidden states."""
    torch.manual_seed(0)
    config = transformers.Gemma2Config(
        vocab_size=V, hidden_size=D, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, final_logit_softcapping=0.05, pad_token_id=0,
    )  # fmt: skip
    return transformers.Gemma2ForCausalLM(config).eval()


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.randint(3, V, (3, 11), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("build", [_llama, _gpt2, _capped])
def test_the_back_end_computes_the_logits_of_the_model(build, ids: torch.Tensor) -> None:
    model = build()
    backend = HuggingFaceBackend(model)
    with torch.no_grad():
        found = backend.logits(backend.hidden(backend.embed(ids)))
        torch.testing.assert_close(found, model(ids).logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("build", [_llama, _gpt2, _capped])
def test_rows_of_several_documents_equal_the_documents(build, ids: torch.Tensor) -> None:
    wrapped = perturb(build(), Gaussian(D, log_scale=-50.0)).eval()
    segments = torch.arange(3).repeat_interleave(11)[None]
    packed = wrapped(ids.flatten()[None], segment_ids=segments).logits[0].unflatten(0, (3, 11))
    torch.testing.assert_close(packed, wrapped(ids).logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("tied", [True, False])
def test_files_round_trip(tied: bool, ids: torch.Tensor, tmp_path: Path) -> None:
    family = Contextual(D, generator=torch.Generator().manual_seed(0), log_scale=-1.0)
    wrapped = perturb(_llama(tied), family, cross_fitted, antithetic(8), seed=3, inference_draws=4)
    wrapped.train()(ids, labels=ids).loss.backward()
    wrapped.save_pretrained(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}
    for loaded in (
        PerturbedCausalLM.from_pretrained(tmp_path),
        transformers.AutoModelForCausalLM.from_pretrained(tmp_path),
    ):
        assert type(loaded) is PerturbedCausalLM
        assert int(loaded.perturbed.step) == 1
        assert str(loaded.perturbed.draws) == str(wrapped.perturbed.draws)
        torch.testing.assert_close(loaded.eval()(ids).logits, wrapped.eval()(ids).logits, rtol=0, atol=0)
        torch.testing.assert_close(
            loaded.train()(ids, labels=ids).loss, wrapped.train()(ids, labels=ids).loss, rtol=0, atol=0
        )
        wrapped.perturbed.step.sub_(1)
        assert (loaded.get_output_embeddings().weight is loaded.get_input_embeddings().weight) == tied


def test_loss_in_training_and_mixture_logits_in_evaluation(ids: torch.Tensor) -> None:
    wrapped = perturb(_llama(), Gaussian(D, log_scale=-1.0))
    out = wrapped.eval()(ids, labels=ids)
    assert wrapped.train()(ids, labels=ids).logits is None
    torch.testing.assert_close(out.logits.exp().sum(-1), torch.ones(3, 11))
    plain = PerturbedLM(HuggingFaceBackend(_llama()), Gaussian(D, log_scale=-1.0).float()).eval()
    torch.testing.assert_close(out.logits, plain.log_probabilities(ids))
    torch.testing.assert_close(out.loss, plain.loss(ids, ids))


def test_what_is_learned_can_be_chosen(ids: torch.Tensor) -> None:
    wrapped = perturb(_llama().requires_grad_(False), LowRank(0.1 * torch.ones(D, 2)))
    wrapped.train()(ids, labels=ids).loss.backward()
    learned = {name for name, p in wrapped.named_parameters() if p.grad is not None}
    assert learned == {"perturbed.perturbation.factor"}


def test_models_that_cannot_be_perturbed_are_named() -> None:
    config = transformers.T5Config(vocab_size=V, d_model=D, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    with pytest.raises(TypeError, match="does not compute logits from inputs_embeds"):
        perturb(transformers.T5ForConditionalGeneration(config), Gaussian(D))
    with pytest.raises(ValueError, match="embeddings have dimension 16, the perturbation 5"):
        perturb(_llama(), Gaussian(5))
    with pytest.raises(ValueError, match="needs 2 or more independent groups"):
        perturb(_llama(), Gaussian(D), cross_fitted, iid(1))


def test_single_draw_of_no_noise_is_the_model_s_own_loss(ids: torch.Tensor) -> None:
    model = _llama()
    expected = model(ids, labels=ids).loss
    found = perturb(model, Gaussian(D, log_scale=-50.0), single_draw, 1)(ids, labels=ids).loss
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
