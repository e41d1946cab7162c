"""TAIA: which parameters are attention's, and what the merged model is."""

import pytest
import torch

from eeqs.engine.errors import DataError
from eeqs.llm import ToyTransformer
from eeqs.llm.methods import is_attention, plain, taia, taia_adapter, taia_state

V, D, T = 30, 8, 10


def _toy() -> ToyTransformer:
    return ToyTransformer(V, D, context=T, generator=torch.Generator().manual_seed(0))


def _trained(method):
    """A model whose every parameter has moved, and its state before."""
    model = method.model(_toy(), 0).eval()
    initial = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return model, initial


def test_prediction_keeps_attention_and_nothing_else():
    method = taia()
    model, initial = _trained(method)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.backend.tokens.weight.grad = torch.ones_like(model.backend.tokens.weight)
    predictor = method.predictor(model, initial)
    kept = [name for name in before if ".attend." in name or ".project." in name]
    assert len(kept) == 8  # two layers, two matrices with biases
    for name, value in predictor.state_dict().items():
        assert value.equal(before[name] if name in kept else initial[name]), name
        assert (name == "step") or not before[name].equal(initial[name])
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())
    assert model.backend.tokens.weight.grad is not None
    ids = torch.randint(V, (2, T), generator=torch.Generator().manual_seed(2))
    merged, full = predictor.log_probabilities(ids), model.log_probabilities(ids)
    reference = plain().model(_toy(), 0).eval()
    assert (merged - full).abs().max() > 0.01
    assert (merged - reference.log_probabilities(ids)).abs().max() > 0.01
    state = {**initial, **{name: before[name] for name in kept}}
    reference.load_state_dict(state)
    assert reference.log_probabilities(ids).equal(merged)


def test_training_can_go_on_and_the_prediction_stays():
    method = taia()
    model, initial = _trained(method)
    predictor = method.predictor(model, initial)
    ids = torch.randint(V, (2, T), generator=torch.Generator().manual_seed(2))
    first = predictor.log_probabilities(ids)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert predictor.log_probabilities(ids).equal(first)


@pytest.mark.parametrize(
    ("name", "attention"),
    [
        ("model.layers.3.self_attn.q_proj.weight", True),
        ("model.layers.3.self_attn.q_norm.weight", True),
        ("base_model.model.model.layers.3.self_attn.v_proj.lora_A.default.weight", True),
        ("transformer.h.0.attn.c_attn.weight", True),
        ("h.0.attn.c_proj.bias", True),
        ("gpt_neox.layers.0.attention.query_key_value.weight", True),
        ("gpt_neox.layers.0.attention.dense.bias", True),
        ("transformer.h.1.self_attention.dense.weight", True),
        ("backend.blocks.0.attend.weight", True),
        ("blocks.0.project.bias", True),
        ("model.layers.3.mlp.down_proj.weight", False),
        ("model.layers.3.post_attention_layernorm.weight", False),
        ("model.layers.3.input_layernorm.weight", False),
        ("transformer.h.0.mlp.c_proj.weight", False),
        ("transformer.h.0.ln_1.weight", False),
        ("gpt_neox.layers.0.post_attention_layernorm.bias", False),
        ("project.weight", False),
        ("blocks.0.narrow.weight", False),
        ("lm_head.weight", False),
    ],
)
def test_names(name, attention):
    assert is_attention(name) is attention


def test_a_state_without_attention_is_refused_with_its_modules():
    state = {f"layers.{i}.mixer.{part}.weight": torch.zeros(2) for i in range(20) for part in ("in", "out")}
    with pytest.raises(DataError, match=r"layers\.\*\.mixer\.in, layers\.\*\.mixer\.out; pass is_attention="):
        taia_state(state, state)
    assert taia_state(state, state, lambda name: "mixer" in name) == state


def test_states_of_other_models_are_refused():
    state = {"h.0.attn.weight": torch.zeros(2), "h.0.mlp.weight": torch.zeros(2)}
    with pytest.raises(DataError, match=r"only one of the two states has h\.0\.mlp\.weight"):
        taia_state({"h.0.attn.weight": torch.zeros(2)}, state)
    with pytest.raises(DataError, match=r"other shapes of h\.0\.mlp\.weight"):
        taia_state({**state, "h.0.mlp.weight": torch.zeros(3)}, state)


def _adapter() -> dict[str, torch.Tensor]:
    modules = ("self_attn.q_proj", "mlp.up_proj")
    return {
        f"base_model.model.model.layers.{i}.{module}.lora_{factor}.weight": torch.full((2, 2), 1.0 + i)
        for i in range(2)
        for module in modules
        for factor in "AB"
    }


def test_an_adapter_is_switched_off_outside_attention():
    trained = _adapter()
    merged = taia_adapter(trained)
    for name, tensor in merged.items():
        off = "mlp" in name and "lora_B" in name
        assert tensor.equal(torch.zeros_like(tensor) if off else trained[name]), name
    assert all(tensor.ne(0).all() for tensor in trained.values())


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"base_model.model.lm_head.weight": torch.ones(2)}, r"lm_head\.weight are trained in full"),
        ({"m.mlp.up_proj.lora_magnitude_vector": torch.ones(2)}, "lora_magnitude_vector are trained in full"),
    ],
)
def test_adapters_that_need_their_start_are_refused(changes, complaint):
    trained = _adapter() | changes
    with pytest.raises(DataError, match=complaint):
        taia_adapter(trained)
    initial = {name: torch.zeros_like(tensor) for name, tensor in trained.items()}
    merged = taia_state(initial, trained)
    assert all(tensor.any() == ("self_attn" in name) for name, tensor in merged.items())


def test_no_adapter_and_no_attention_are_refused():
    with pytest.raises(DataError, match="no LoRA factors among h"):
        taia_adapter({"h.0.attn.weight": torch.ones(2)})
    with pytest.raises(DataError, match=r"no attention among the modules m\.mlp\.lora_A, m\.mlp\.lora_B"):
        taia_adapter({"m.mlp.lora_A.weight": torch.ones(2), "m.mlp.lora_B.weight": torch.ones(2)})
