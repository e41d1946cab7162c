"""TAIA on Hugging Face architectures and on adapters of peft."""

import copy

import pytest
import torch

pytest.importorskip("transformers")

from transformers import GPT2Config, GPT2LMHeadModel, GPTNeoXConfig, GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM

from eeqs.engine.errors import DataError
from eeqs.llm.huggingface import HuggingFaceBackend
from eeqs.llm.huggingface.taia import taia_checkpoint
from eeqs.llm.methods import is_attention, taia, taia_adapter

V, T = 40, 9
# peft asks transformers under a name that is going.
by_peft = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")


def _llama(seed: int = 0) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=V, **sizes)).eval()


def _gpt2() -> GPT2LMHeadModel:
    return GPT2LMHeadModel(GPT2Config(vocab_size=V, n_embd=16, n_layer=2, n_head=2, n_positions=32)).eval()


def _neox() -> GPTNeoXForCausalLM:
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    return GPTNeoXForCausalLM(GPTNeoXConfig(vocab_size=V, **sizes)).eval()


@pytest.mark.parametrize("make", [_llama, _gpt2, _neox])
def test_names_agree_with_the_classes_of_the_modules(make):
    model = make()
    inside = {
        f"{path}.{name}"
        for path, module in model.named_modules()
        if type(module).__name__.endswith("Attention")
        for name, _ in module.named_parameters()
    }
    assert inside
    assert {name for name, _ in model.named_parameters() if is_attention(name)} == inside


@pytest.mark.parametrize("make", [_llama, _gpt2, _neox])
def test_the_method_on_a_whole_model(make):
    method = taia()
    model = method.model(HuggingFaceBackend(make()), 0).eval()
    initial = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05)
    predictor = method.predictor(model, initial)
    for name, parameter in predictor.named_parameters():
        assert parameter.equal(initial[name]) is not is_attention(name), name
    log_p = predictor.log_probabilities(torch.arange(T)[None])
    torch.testing.assert_close(log_p.logsumexp(-1), torch.zeros(1, T))


@by_peft
def test_an_adapter_of_peft_adds_its_attention_updates_alone():
    peft = pytest.importorskip("peft")
    ids = torch.arange(T)[None]
    base, expected = _llama(), _llama()
    lora = peft.LoraConfig(r=2, lora_alpha=4, target_modules="all-linear", task_type="CAUSAL_LM")
    tuned = peft.get_peft_model(base, lora).eval()
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name))))
        # The same by hand: the update of a weight is B A times alpha / r.
        for path, module in tuned.named_modules():
            if path.endswith(".base_layer") or not hasattr(module, "lora_A"):
                continue
            weight = expected.get_submodule(path.removeprefix("base_model.model.")).weight
            if "self_attn" in path:
                weight += 2 * module.lora_B["default"].weight @ module.lora_A["default"].weight
        full = tuned(ids).logits
        merged = copy.deepcopy(tuned)
        peft.set_peft_model_state_dict(merged, taia_adapter(peft.get_peft_model_state_dict(tuned)))
        found = merged(ids).logits
        torch.testing.assert_close(found, expected(ids).logits, rtol=1e-4, atol=1e-5)
        assert (found - full).abs().max() > 1e-2


@by_peft
def test_the_method_on_a_model_with_an_adapter():
    peft = pytest.importorskip("peft")
    lora = peft.LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
    tuned = peft.get_peft_model(_llama(), lora).eval()
    method = taia()
    model = method.model(HuggingFaceBackend(tuned.base_model.model), 0).eval()
    initial = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.add_(0.3)
    predictor = method.predictor(model, initial)
    for name, value in predictor.state_dict().items():
        assert value.equal(initial[name]) is not ("lora_" in name and "self_attn" in name), name


def _moved(model: torch.nn.Module) -> torch.nn.Module:
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)))
    return model


@pytest.mark.parametrize("shard", ["1GB", "4KB"])
def test_checkpoints_of_a_whole_model(tmp_path, shard):
    first, last = _llama(), _moved(_llama())
    first.save_pretrained(tmp_path / "initial", max_shard_size="1GB")
    last.save_pretrained(tmp_path / "trained", max_shard_size=shard)
    taia_checkpoint(tmp_path / "trained", tmp_path / "out", initial=tmp_path / "initial")
    names = {path.name for path in (tmp_path / "trained").iterdir()}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    assert (len(names) > 4) == (shard == "4KB")
    merged, before, after = (
        model.state_dict() for model in (LlamaForCausalLM.from_pretrained(tmp_path / "out"), first, last)
    )
    for name, tensor in merged.items():
        assert tensor.equal((after if is_attention(name) else before)[name]), name
    with pytest.raises(DataError, match="exists"):
        taia_checkpoint(tmp_path / "trained", tmp_path / "out", initial=tmp_path / "initial")
    with pytest.raises(DataError, match="no LoRA factors"):
        taia_checkpoint(tmp_path / "trained", tmp_path / "other")
    with pytest.raises(DataError, match="no safetensors"):
        taia_checkpoint(tmp_path, tmp_path / "other")
    assert not (tmp_path / "other").exists()


@by_peft
def test_checkpoints_of_an_adapter(tmp_path):
    peft = pytest.importorskip("peft")
    lora = peft.LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
    tuned = peft.get_peft_model(_llama(), lora).eval()
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.3)
    tuned.save_pretrained(tmp_path / "trained")
    taia_checkpoint(tmp_path / "trained", tmp_path / "out")
    loaded = peft.PeftModel.from_pretrained(_llama(), tmp_path / "out").state_dict()
    for name, tensor in tuned.state_dict().items():
        off = "lora_B" in name and "self_attn" not in name
        assert loaded[name].equal(torch.zeros_like(tensor) if off else tensor), name
