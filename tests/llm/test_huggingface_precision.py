"""Half precision, compilation and recomputation of the wrapped model; damaged files and numbers; scoring."""

import math
from pathlib import Path

import pytest
import torch

transformers = pytest.importorskip("transformers")

from eeqs.llm.huggingface import PerturbedCausalLM, perturb  # noqa: E402
from eeqs.marginal import Contextual, cross_fitted, iid, single_draw  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
V, D = 50, 16


def _model(layers: int = 3, **options: object) -> PerturbedCausalLM:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=V, hidden_size=D, intermediate_size=24, num_hidden_layers=layers, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=64, pad_token_id=0, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    family = Contextual(D, generator=torch.Generator().manual_seed(0), log_scale=-1.0)
    return perturb(transformers.LlamaForCausalLM(config), family, chunk=8, **options).train()


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.randint(1, V, (4, 12), generator=torch.Generator().manual_seed(0))


def _gradients(model: torch.nn.Module, ids: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    loss = model(ids, labels=ids).loss
    loss.backward()
    return loss.detach(), {name: p.grad for name, p in model.named_parameters()}


@pytest.mark.parametrize("score", [cross_fitted, single_draw], ids=lambda score: score.name)
def test_autocast_keeps_the_perturbation_in_single_precision(score, ids: torch.Tensor) -> None:
    model, seen = _model(score=score), []
    model.perturbed.perturbation.register_forward_hook(lambda _, __, out: seen.append(out.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        loss, gradients = _gradients(model, ids)
    exact, expected = _gradients(_model(score=score), ids)
    assert seen == [torch.float32]
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(float(exact), abs=0.02)
    for name, gradient in gradients.items():  # 8 digits of bfloat16, over a few layers
        assert gradient.dtype == torch.float32
        assert float((gradient - expected[name]).norm()) <= 0.1 * float(expected[name].norm()) + 1e-4, name


def test_weights_in_half_precision_leave_the_perturbation_alone(ids: torch.Tensor, tmp_path: Path) -> None:
    exact = _model()
    exact.save_pretrained(tmp_path)
    moved = _model().to(torch.bfloat16)
    loaded = PerturbedCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16).train()
    for model in (moved, loaded):
        assert model.language_model.lm_head.weight.dtype == torch.bfloat16
        for name, parameter in model.perturbed.perturbation.named_parameters():
            assert torch.equal(parameter, exact.perturbed.perturbation.get_parameter(name))
        loss, gradients = _gradients(model, ids)
        assert float(loss) == pytest.approx(float(exact(ids, labels=ids).loss.detach()), abs=0.05)
        exact.perturbed.step.zero_()
        assert {gradient.dtype for gradient in gradients.values()} == {torch.bfloat16, torch.float32}


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # asked for by dynamo itself
def test_a_compiled_model_has_the_same_loss_and_gradient(ids: torch.Tensor) -> None:
    torch._dynamo.reset()
    model = _model(layers=1)
    loss, _ = _gradients(torch.compile(model, backend="aot_eager"), ids)
    exact, expected = _gradients(_model(layers=1), ids)
    torch.testing.assert_close(loss, exact, rtol=1e-5, atol=1e-6)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-4, atol=1e-6)
    assert int(model.perturbed.step) == 1


def _kept(model: torch.nn.Module, ids: torch.Tensor) -> int:
    """Bytes that autograd keeps for the backward pass, each storage once."""
    held: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(ids, labels=ids).loss.backward()
    return sum(held.values())


def test_recomputed_layers_have_the_same_gradient_and_keep_less(ids: torch.Tensor) -> None:
    plain, saving = _model(), _model()
    saving.gradient_checkpointing_enable()
    loss, gradients = _gradients(saving, ids)
    exact, expected = _gradients(plain, ids)
    torch.testing.assert_close(loss, exact, rtol=0, atol=0)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-6, atol=1e-8)
    assert _kept(saving, ids) < 0.6 * _kept(plain, ids)


@pytest.mark.parametrize("latent", ["fresh", "shared"])
def test_a_continuation_is_scored_by_the_chain_rule(latent: str, ids: torch.Tensor) -> None:
    """As evaluation harnesses do: log-softmax of the logits, gathered at the continuation, in a padded batch."""
    model = _model(latent=latent, inference_draws=8).eval()
    context, whole = 5, ids[:2]
    shorter = whole[1:, :9]
    batch = torch.cat([whole[:1], torch.nn.functional.pad(shorter, (0, 3))])
    mask = (torch.arange(12) < torch.tensor([[12], [9]])).long()
    logits = model(batch, attention_mask=mask).logits
    torch.testing.assert_close(logits.log_softmax(-1), logits)  # they are log-probabilities already
    for row, tokens in zip(logits, (whole[0], shorter[0]), strict=True):
        length = len(tokens)
        scored = row[context - 1 : length - 1].gather(-1, tokens[context:, None]).sum()
        z = model.perturbed._latents(tokens[None], torch.ones(1, length, dtype=torch.bool), iid(8), 2**40, None)
        expected = 0.0
        for t in range(context, length):  # one pass a token, on the prefix only
            with torch.no_grad():
                embedded = model.get_input_embeddings()(tokens[None, :t])
                prefix = model.perturbed.perturbation(embedded, z[:, :, :t])[:, 0]
                p = model.language_model(inputs_embeds=prefix).logits[:, -1].softmax(-1)[:, tokens[t]]
            expected += math.log(float(p.double().mean()))
        assert float(scored) == pytest.approx(expected, abs=1e-4)


def test_logits_of_the_last_positions_are_those_of_all(ids: torch.Tensor) -> None:
    model = _model().eval()
    torch.testing.assert_close(model(ids, logits_to_keep=2).logits, model(ids).logits[:, -2:])


def test_a_loss_that_is_not_finite_is_named(ids: torch.Tensor) -> None:
    model = _model()
    with torch.no_grad():
        model.language_model.lm_head.weight[3] = math.nan
    with pytest.raises(FloatingPointError, match="the loss of training batch 1 is nan; lower the learning rate"):
        model(ids, labels=ids)


def test_tokens_of_another_tokenizer_are_named(ids: torch.Tensor) -> None:
    model, wrong = _model(), ids.clone()
    wrong[1, 4] = 57
    for call in (lambda: model(wrong, labels=ids), lambda: model.eval()(wrong)):
        with pytest.raises(ValueError, match=r"input_ids contain token 57.*0\.\.49: tokenizer and model do not"):
            call()
    with pytest.raises(ValueError, match="labels contain token 57"):
        model(ids, labels=wrong)
    with pytest.raises(ValueError, match="input_ids contain token 57"):
        model.generate(wrong, max_new_tokens=1)
    with pytest.raises(ValueError, match="contain token -3"):
        model(ids - ids.min() - 3)


def test_damaged_weights_are_named(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    _model().save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=f"weights in {tmp_path} are damaged .* load an earlier checkpoint"):
        PerturbedCausalLM.from_pretrained(tmp_path)
    path.write_bytes(content)
    tensors = load_file(path)
    del tensors[next(name for name in tensors if "perturbation" in name)]
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lack perturbed\.perturbation\."):
        PerturbedCausalLM.from_pretrained(tmp_path)
