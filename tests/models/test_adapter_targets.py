"""Adapters fit every architecture, or are refused before anything is spent."""

from __future__ import annotations

import copy
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from pydantic import ValidationError
from torch import Tensor

from tests.helpers import finished_runs, plain_forward, tiny_models
from tests.helpers.zoo import ZOO
from whinchat.errors import ModelError
from whinchat.evaluation.scoring import label_logits
from whinchat.models.adapter_targets import adapted_share, expert_parameters, lora_layers, plan_adapter
from whinchat.models.adapters import attach_adapter, merge_adapter, save_adapter
from whinchat.models.shallow_model import layer_number
from whinchat.prompts.batching import collate
from whinchat.recipe.model_config import AdapterConfig
from whinchat.training.prepare import prepare_run

METHODS: dict[str, dict[str, Any]] = {"lora": {}, "dora": {"method": "dora"}, "pissa": {"init": "pissa"}}
# One of each kind: Conv1D, a linear layer of its own class, Mamba (two), hybrids, experts, a router that is a linear
# layer but returns a pair, experts that PEFT adapts by the names of their old linear layers, and a vision tower.
COMMON = (
    "GPT-2", "Falcon", "Mamba", "Falcon-H1", "Jamba", "GPT-OSS", "Qwen2-MoE", "Llama 4 text", "Qwen3-MoE", "Gemma 4",
)  # fmt: skip
EXPERTS = ("GPT-OSS", "Qwen2-MoE", "GraniteMoE", "Llama 4 text", "LFM2-MoE", "Jamba", "Nemotron-H")
# Its layers share weights and differ by their adapters.
UNMERGEABLE = ("Zamba", "Zamba2")
# The gate of a shared expert has one row.
WITH_SHARED_EXPERT = ("Qwen2-MoE", "Qwen3-Next", "Qwen3.5-MoE text", "Qwen3.5-MoE")
IDS = torch.tensor([[7, 301, 22, 95, 140, 33, 9, 250, 411]])


def adapter(**fields: Any) -> AdapterConfig:
    return AdapterConfig(**{"r": 2, "lora_alpha": 4, **fields})


def logits_of(model: Any) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(input_ids=IDS, use_cache=False).logits.float()
    return found


def base_of(name: str) -> Any:
    return ZOO[name].build().requires_grad_(False)


def check_adapter(name: str, config: AdapterConfig, folder: Path) -> None:
    """Identity at first; every weight trains; PEFT alone loads and merges what is saved."""
    base = base_of(name)
    twin = copy.deepcopy(base)
    before = logits_of(base)
    tuned = attach_adapter(base, config, seed=1).eval()
    torch.testing.assert_close(logits_of(tuned), before, rtol=1e-4, atol=3e-4)
    trained = {key: weight for key, weight in tuned.named_parameters() if weight.requires_grad}
    assert {weight.dtype for weight in trained.values()} == {torch.float32}
    tiny_models.stir(tuned)
    tuned(input_ids=IDS, labels=IDS, use_cache=False).loss.backward()
    mine = logits_of(tuned)
    assert (mine - before).abs().max() > 0.05
    # Experts that no token was sent to get no gradient, and PEFT keeps all of a layer's experts in one matrix.
    assert [key for key, weight in trained.items() if weight.grad is None or not weight.grad.any()] == []
    save_adapter(tuned, folder, None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = PeftModel.from_pretrained(twin, str(folder)).eval()
    torch.testing.assert_close(logits_of(theirs), mine, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(logits_of(merge_adapter(theirs)), mine, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", COMMON)
def test_lora_on_every_kind_of_layer(name: str, tmp_path: Path) -> None:
    check_adapter(name, adapter(), tmp_path)


@pytest.mark.parametrize("name", ["GPT-2", "Mamba", "Qwen3-MoE"])
@pytest.mark.parametrize("method", ["dora", "pissa"])
def test_dora_and_pissa_leave_out_what_they_cannot_adapt(name: str, method: str, tmp_path: Path) -> None:
    check_adapter(name, adapter(**METHODS[method]), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", [name for name in ZOO if name not in UNMERGEABLE])
def test_every_method_on_every_architecture(name: str, method: str, tmp_path: Path) -> None:
    has_tiny_gate = method == "pissa" and name in WITH_SHARED_EXPERT
    with pytest.raises(ModelError, match="target layer has 1; lower") if has_tiny_gate else nullcontext():
        check_adapter(name, adapter(**METHODS[method]), tmp_path)


@pytest.mark.parametrize("name", EXPERTS)
def test_adapters_on_experts(name: str, tmp_path: Path) -> None:
    names = sorted({key.rsplit(".", 1)[-1] for key in expert_parameters(base_of(name))})
    targets = tuple(f"experts.{key}" for key in names)
    check_adapter(name, adapter(target_parameters=targets), tmp_path)
    plain, with_experts = (
        plan_adapter(base_of(name), adapter(**more)) for more in ({}, {"target_parameters": targets})
    )
    assert with_experts.adapted_share > plain.adapted_share + 0.02
    (said,) = plain.notes[1:]
    advice = said.partition("adapter.target_parameters=")[2].removesuffix(" adapts the experts")
    assert set(advice.split(",")) == set(targets)
    assert not any("target_parameters" in note for note in with_experts.notes)


def test_experts_alone(tmp_path: Path) -> None:
    check_adapter("GPT-OSS", adapter(target_modules=(), target_parameters=("experts.down_proj",)), tmp_path)


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_dropout_on_gpt2_equals_pefts(method: str, tmp_path: Path) -> None:
    base = base_of("GPT-2")
    twin = copy.deepcopy(base)
    tuned = attach_adapter(base, adapter(method=method, lora_dropout=0.3), seed=1)
    tiny_models.stir(tuned)
    save_adapter(tuned, tmp_path, None)
    results = []
    for model in (tuned, PeftModel.from_pretrained(twin, str(tmp_path), is_trainable=True)):
        torch.manual_seed(5)
        loss = model.train()(input_ids=IDS, labels=IDS).loss
        results.append(plain_forward.gradients(model, loss))
    plain_forward.assert_same_gradients(*results)


@pytest.mark.parametrize("name", ["GPT-2", "Gemma 3 text", "Mixtral"])
def test_adapters_in_the_upper_layers_alone(name: str, tmp_path: Path) -> None:
    last = ZOO[name].config().num_hidden_layers - 1
    check_adapter(name, adapter(layers_to_transform=(last,)), tmp_path)


def test_no_backward_pass_below_the_lowest_adapter(tiny_llama: Path) -> None:
    saved = {}
    for layers in ((0, 1), (1,)):
        base = tiny_models.load(tiny_llama)
        tuned = attach_adapter(base.model, adapter(layers_to_transform=layers), seed=1)
        trained = {layer_number(name) for name, weight in tuned.named_parameters() if weight.requires_grad}
        assert trained == set(layers)
        engine = tiny_models.engine_of(base, model=tuned.train())
        prompts = engine.template.encode(tiny_models.TEXTS)
        batch = collate([prompt.ids for prompt in prompts], [engine.tree.tokens] * len(prompts))
        sizes: list[int] = []

        def save(tensor: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
            label_logits(engine, batch).sum().backward()
        saved[layers] = sum(sizes)
    assert saved[(1,)] < 0.7 * saved[(0, 1)]


def test_layers_that_the_model_lacks(tiny_llama: Path) -> None:
    with pytest.raises(ModelError, match=r"no linear layers in layer 2, 7; its layers are 0 to 1"):
        plan_adapter(tiny_models.load(tiny_llama).model, adapter(layers_to_transform=(1, 7, 2)))
    with pytest.raises(ValidationError, match="layers_to_transform cannot be used with them"):
        adapter(layers_to_transform=(1,), target_parameters=("experts.down_proj",))


def test_the_share_counts_the_layers_with_an_adapter(tiny_llama_wide: Path) -> None:
    model = tiny_models.load(tiny_llama_wide).model
    total = sum(weight.numel() for weight in model.parameters())
    keys = sum(layer.self_attn.k_proj.weight.numel() for layer in model.model.layers)
    plan = plan_adapter(model, adapter(target_modules=("k_proj",)))
    assert plan.adapted_share == pytest.approx(keys / total)
    assert plan.notes[0] == (
        f"The adapter is attached to 2 layers, which hold {100 * keys / total:.1f} % of the model's parameters"
    )
    assert "self_attn.q_proj" in plan.notes[1]
    held = tiny_models.load(tiny_llama_wide, load_in="nf4").model
    tuned = attach_adapter(held, adapter(method="dora", target_modules=("k_proj",)), seed=1)
    assert adapted_share(tuned) == pytest.approx(keys / total)
    assert not plan_adapter(model, adapter()).notes[1:]


def test_a_run_says_the_share_before_anything_is_spent(
    tiny_llama: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = finished_runs.recipe_for(tiny_llama, finished_runs.write_csv(tmp_path / "texts.csv"))
    with caplog.at_level("INFO", logger="whinchat.progress"):
        prepare_run(recipe)
    assert "The adapter is attached to 14 layers, which hold " in caplog.text
    refused = recipe.model_copy(update={"adapter": adapter(target_parameters=("experts.down_proj",))})
    with pytest.raises(ModelError, match="match no experts' weights of LlamaForCausalLM"):
        prepare_run(refused)


def test_layers_that_the_model_does_not_call_get_no_adapter() -> None:
    """Mamba multiplies with ``dt_proj.weight`` itself: an adapter there would change nothing until merged."""
    tuned = attach_adapter(base_of("Mamba"), adapter(), seed=1)
    names = {name.rsplit(".", 1)[-1] for name, module in tuned.named_modules() if module in lora_layers(tuned)}
    assert names == {"in_proj", "x_proj"}
    with pytest.raises(ModelError, match=r"target_modules: MambaForCausalLM calls none of these layers in a forward"):
        plan_adapter(base_of("Mamba"), adapter(target_modules=("dt_proj",)))
    vision = attach_adapter(base_of("Gemma 4"), adapter(), seed=1)
    adapted = [name for name, module in vision.named_modules() if module in lora_layers(vision)]
    assert adapted
    assert not any("vision" in name for name in adapted)


def test_layers_that_peft_refuses() -> None:
    with pytest.raises(ModelError) as caught:
        plan_adapter(base_of("Falcon-H1"), adapter(target_modules=("in_proj", "out_proj")))
    message = str(caught.value)
    assert message.startswith("adapter.target_modules: PEFT cannot attach this adapter to FalconH1ForCausalLM: ")
    assert "'out_proj' is incompatible with Mamba-based models" in message
    assert message.endswith("; name other layers, or use adapter.method=lora without dropout")
    assert "\n" not in message


def test_experts_that_are_not_there() -> None:
    with pytest.raises(ModelError) as caught:
        plan_adapter(base_of("GPT-OSS"), adapter(target_parameters=("experts.w1",)))
    assert str(caught.value) == (
        "adapter.target_parameters: experts.w1 match no experts' weights of GptOssForCausalLM; it has "
        "experts.down_proj, experts.gate_up_proj"
    )
    with pytest.raises(ModelError, match=r"of LlamaForCausalLM; it has none, so leave adapter\.target_parameters out"):
        plan_adapter(base_of("Llama"), adapter(target_parameters=("experts.down_proj",)))


@pytest.mark.parametrize(("fields", "name"), [({"method": "dora"}, "method: dora"), ({"init": "pissa"}, "init: pissa")])
def test_recipes_that_ask_too_much_of_experts(fields: dict[str, Any], name: str) -> None:
    with pytest.raises(ValidationError, match=f"by plain LoRA only, so {name} and lora_dropout cannot be used"):
        adapter(target_parameters=("experts.down_proj",), lora_dropout=0.1, **fields)


def test_pissa_needs_layers_of_its_rank() -> None:
    with pytest.raises(ModelError, match=r"pissa starts from 2 singular vectors, the smallest target layer has 1"):
        plan_adapter(base_of("Qwen2-MoE"), adapter(init="pissa"))


@pytest.mark.parametrize("name", UNMERGEABLE)
def test_layers_that_share_a_weight_cannot_be_merged(name: str) -> None:
    tuned = attach_adapter(base_of(name), adapter(), seed=1)
    with pytest.raises(ModelError, match="several of its layers share one weight and differ by their adapters"):
        merge_adapter(tuned)


def test_a_tied_output_layer_gets_no_adapter() -> None:
    with pytest.raises(ModelError, match=r"lm_head shares its weight with the input embeddings of this model"):
        plan_adapter(base_of("Gemma 2"), adapter(target_modules=("q_proj", "lm_head")))
