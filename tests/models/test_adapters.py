"""Adapters start as the identity, compute what PEFT computes, and load with PEFT alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor

from tests.helpers import plain_forward, tiny_models
from tests.helpers.combinations import half_of
from whinchat.errors import ModelError
from whinchat.evaluation.scoring import score_prompts
from whinchat.models.adapter_targets import lora_layers
from whinchat.models.adapters import (
    attach_adapter,
    cast_lora_factors,
    count_parameters,
    load_adapter,
    save_adapter,
)
from whinchat.models.plain_forward import autocast
from whinchat.recipe.model_config import AdapterConfig

METHODS = {
    "lora": {"method": "lora"},
    "dora": {"method": "dora"},
    "rslora": {"method": "rslora"},
    "pissa": {"init": "pissa"},
    "pissa-rslora": {"method": "rslora", "init": "pissa"},
    "pissa-dora": {"method": "dora", "init": "pissa"},
}
every_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())


def adapter(**fields: Any) -> AdapterConfig:
    return AdapterConfig(**{"r": 4, "lora_alpha": 8, **fields})


def ids_of(folder: Path) -> Tensor:
    backbone = tiny_models.load(folder)
    prompt = tiny_models.template_of(backbone).encode([tiny_models.TEXTS[4]])[0]
    return torch.tensor([prompt.ids])


def logits_of(model: Any, ids: Tensor) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(input_ids=ids).logits.float()
    return found


@every_method
def test_starts_as_the_identity_in_float32(tiny_model: Path, method: dict[str, Any]) -> None:
    ids = ids_of(tiny_model)
    backbone = tiny_models.load(tiny_model)
    before = logits_of(backbone.model, ids)
    tuned = attach_adapter(backbone.model, adapter(**method), seed=1).eval()
    torch.testing.assert_close(logits_of(tuned, ids), before, rtol=1e-5, atol=2e-5)
    tiny_models.stir(tuned)
    assert (logits_of(tuned, ids) - before).abs().max() > 0.1


@pytest.mark.parametrize(
    ("method", "held"),
    half_of(
        list(METHODS.values()),
        [
            {"load_in": "bfloat16"},
            {"load_in": "nf4", "compute_dtype": "float32", "double_quant": False},
            {"load_in": "nf4", "compute_dtype": "float32", "double_quant": True},
            {"load_in": "nf4", "compute_dtype": "bfloat16", "double_quant": True},
        ],
    ),
)
def test_starts_as_the_identity_in_narrow_types(
    tiny_llama_wide: Path, method: dict[str, Any], held: dict[str, Any]
) -> None:
    ids = ids_of(tiny_llama_wide)
    backbone = tiny_models.load(tiny_llama_wide, **held)
    with autocast(backbone.plan):
        before = logits_of(backbone.model, ids)
        tuned = attach_adapter(backbone.model, adapter(**method), seed=1).eval()
        after = logits_of(tuned, ids)
    exact = backbone.plan.compute_dtype == "float32"
    spread = before.std().item()
    assert (after - before).abs().max() <= (2e-5 if exact else 0.06) * max(1.0, spread)
    assert all(weight.dtype == torch.float32 for weight in tuned.parameters() if weight.requires_grad)


def test_nf4_holds_other_weights_than_float32(tiny_llama_wide: Path) -> None:
    """Keeps the test above honest: NF4 is really on, and its rounding is no small thing."""
    ids = ids_of(tiny_llama_wide)
    exact = logits_of(tiny_models.load(tiny_llama_wide).model, ids)
    found = {}
    for double in (False, True):
        model = tiny_models.load(tiny_llama_wide, load_in="nf4", compute_dtype="float32", double_quant=double).model
        weight = model.model.layers[0].mlp.up_proj.weight
        assert weight.__class__.__name__ == "Params4bit"
        assert weight.quant_state.nested is double
        found[double] = logits_of(model, ids)
        assert (found[double] - exact).abs().max() > 0.05
    assert not torch.equal(found[False], found[True])


def test_pissa_on_nf4_starts_from_the_dequantized_weight(tiny_llama_wide: Path) -> None:
    from whinchat.models.adapters import _dense_weight

    backbone = tiny_models.load(tiny_llama_wide, load_in="nf4", compute_dtype="float32")
    tuned = attach_adapter(backbone.model, adapter(init="pissa"), seed=1)
    for layer in lora_layers(tuned):
        weight = _dense_weight(layer.get_base_layer())
        a, b = layer.lora_A["default"].weight[:4], layer.lora_B["default"].weight[:, :4]
        left, values, right = torch.linalg.svd(weight, full_matrices=False)
        best = (left[:, :4] * values[:4]) @ right[:4]
        torch.testing.assert_close(layer.scaling["default"] * b @ a, best, rtol=1e-4, atol=1e-4)


@every_method
def test_the_same_seed_gives_the_same_weights(tiny_llama: Path, method: dict[str, Any]) -> None:
    seed = 1

    def weights(with_seed: int) -> list[Tensor]:
        torch.rand(with_seed + 3)
        tuned = attach_adapter(tiny_models.load(tiny_llama).model, adapter(**method), with_seed)
        return [weight.detach().clone() for weight in tuned.parameters() if weight.requires_grad]

    again = list(zip(weights(seed), weights(seed), strict=True))
    assert all(torch.equal(one, other) for one, other in again)
    if "init" not in method:
        assert not all(torch.equal(one, other) for one, other in zip(weights(seed), weights(seed + 1), strict=True))


@pytest.mark.parametrize("rank_stabilised", [False, True])
def test_one_step_of_pissa_equals_pefts_own(tiny_model: Path, rank_stabilised: bool) -> None:
    """Same start, same gradients, same effective weights after a step of plain SGD."""
    ids = ids_of(tiny_model)
    ours = attach_adapter(
        tiny_models.load(tiny_model).model,
        adapter(init="pissa", method="rslora" if rank_stabilised else "lora"),
        seed=1,
    )
    base = plain_forward.plain_base(tiny_model)
    originals = {name: weight.clone() for name, weight in base.state_dict().items()}
    theirs = get_peft_model(
        base,
        LoraConfig(
            task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights="pissa",
            use_rslora=rank_stabilised,
        ),
    )  # fmt: skip
    outputs = []
    for model in (ours, theirs):
        model.eval()
        output = model(input_ids=ids, labels=ids)
        output.loss.backward()
        outputs.append(output.logits.detach())
        torch.optim.SGD([weight for weight in model.parameters() if weight.requires_grad], lr=0.05).step()
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-5, atol=2e-5)

    def effective(layer: Any) -> Tensor:
        update = layer.scaling["default"] * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
        return (layer.get_base_layer().weight + update).detach()

    pairs = list(zip(lora_layers(ours), lora_layers(theirs), strict=True))
    assert len(pairs) == 14
    moved = 0.0
    for mine, peft in pairs:
        assert mine.scaling["default"] == pytest.approx(peft.scaling["default"])
        gradient = mine.lora_A["default"].weight.grad
        wanted = peft.lora_A["default"].weight.grad
        assert (gradient[:4] - wanted).abs().max() <= 1e-5 * max(1.0, wanted.abs().max().item())
        torch.testing.assert_close(effective(mine), effective(peft), rtol=1e-5, atol=1e-5)
        name = next(
            key
            for key in originals
            if originals[key].shape == mine.get_base_layer().weight.shape
            and torch.equal(originals[key], mine.get_base_layer().weight)
        )
        moved = max(moved, (effective(mine) - originals[name]).abs().max().item())
    assert moved > 1e-2, "the step moved nothing, so comparing it proves nothing"


@pytest.mark.parametrize("method", ["lora", "dora"])
@pytest.mark.parametrize("fused", [False, True])
def test_the_frozen_half_of_pissa_does_not_move(tiny_llama: Path, method: str, fused: bool) -> None:
    ids = ids_of(tiny_llama)
    tuned = attach_adapter(
        tiny_models.load(tiny_llama).model, adapter(init="pissa", method=method, lora_dropout=0.2), seed=1
    ).train()
    start = [
        (layer.lora_A["default"].weight.clone(), layer.lora_B["default"].weight.clone()) for layer in lora_layers(tuned)
    ]
    weights = [weight for weight in tuned.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=1e-2, weight_decay=0.0, fused=fused)
    for _ in range(4):
        optimizer.zero_grad()
        tuned(input_ids=ids, labels=ids).loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
    for layer, (a, b) in zip(lora_layers(tuned), start, strict=True):
        now_a, now_b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        assert torch.equal(now_a[4:], a[4:])
        assert torch.equal(now_b[:, 4:], b[:, 4:])
        assert (now_a[:4] - a[:4]).abs().max() > 1e-3
        assert (now_b[:, :4] - b[:, :4]).abs().max() > 1e-3


@every_method
def test_loads_with_plain_peft(tiny_model: Path, tmp_path: Path, method: dict[str, Any]) -> None:
    ids = ids_of(tiny_model)
    tuned = attach_adapter(tiny_models.load(tiny_model).model, adapter(**method), seed=1).eval()
    tiny_models.stir(tuned)
    mine = logits_of(tuned, ids)
    save_adapter(tuned, tmp_path, "OWNER/NAME")
    theirs = PeftModel.from_pretrained(plain_forward.plain_base(tiny_model), str(tmp_path)).eval()
    torch.testing.assert_close(logits_of(theirs, ids), mine, rtol=1e-5, atol=3e-5)
    assert theirs.peft_config["default"].base_model_name_or_path == "OWNER/NAME"
    # And with ours, and merged by PEFT into a model without any adapter.
    again = load_adapter(tiny_models.load(tiny_model).model, tmp_path)
    torch.testing.assert_close(logits_of(again, ids), mine, rtol=1e-5, atol=3e-5)
    assert not again.training
    torch.testing.assert_close(logits_of(theirs.merge_and_unload(), ids), mine, rtol=1e-4, atol=1e-4)


@every_method
def test_our_forward_passes_equal_pefts_with_dropout(tiny_llama: Path, tmp_path: Path, method: dict[str, Any]) -> None:
    """The same draw of dropout on both sides, gradients included."""
    ids = ids_of(tiny_llama).repeat(3, 1)
    tuned = attach_adapter(tiny_models.load(tiny_llama).model, adapter(**method, lora_dropout=0.3), seed=1)
    tiny_models.stir(tuned)
    twin = plain_forward.plain_twin(tuned, tiny_llama, tmp_path)
    results = []
    for model in (tuned, twin):
        model.train()
        torch.manual_seed(11)
        loss = model(input_ids=ids, labels=ids).loss
        results.append((loss.item(), plain_forward.gradients(model, loss)))
    (mine, found), (theirs, wanted) = results
    assert mine == pytest.approx(theirs, rel=1e-5)
    if method.get("init") == "pissa":
        wanted = {name: _masked(name, gradient) for name, gradient in wanted.items()}
    plain_forward.assert_same_gradients(found, wanted)
    tuned.eval()
    assert not torch.equal(tuned(input_ids=ids, labels=ids).loss, torch.tensor(mine)), "dropout did nothing"


def _masked(name: str, gradient: Tensor) -> Tensor:
    gradient = gradient.clone()
    if "lora_A" in name:
        gradient[4:] = 0
    elif "lora_B" in name:
        gradient[:, 4:] = 0
    return gradient


@pytest.mark.parametrize("method", ["lora", "dora"])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_gradients_on_nf4_equal_pefts(tiny_llama_wide: Path, tmp_path: Path, method: str, dropout: float) -> None:
    ids = ids_of(tiny_llama_wide)
    held = {"load_in": "nf4", "compute_dtype": "float32", "double_quant": True}
    tuned = attach_adapter(
        tiny_models.load(tiny_llama_wide, **held).model, adapter(method=method, lora_dropout=dropout), seed=1
    )
    tiny_models.stir(tuned)
    save_adapter(tuned, tmp_path, None)
    twin = PeftModel.from_pretrained(tiny_models.load(tiny_llama_wide, **held).model, str(tmp_path), is_trainable=True)
    results = []
    for model in (tuned, twin):
        model.train()
        torch.manual_seed(5)
        loss = model(input_ids=ids, labels=ids).loss
        results.append((loss.item(), plain_forward.gradients(model, loss)))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-5)
    plain_forward.assert_same_gradients(results[0][1], results[1][1])


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_evaluation_sees_what_training_changed(tiny_llama: Path, tmp_path: Path, method: str) -> None:
    """Nothing kept between forward passes may outlive a step, a load, or a change by hand."""
    ids = ids_of(tiny_llama)
    tuned = attach_adapter(tiny_models.load(tiny_llama).model, adapter(method=method), seed=1)
    weights = [weight for weight in tuned.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=0.05, fused=True)
    for at in range(3):
        tuned.eval()
        logits_of(tuned, ids)
        tuned.train()
        optimizer.zero_grad()
        tuned(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        tuned.eval()
        mine = logits_of(tuned, ids)
        twin = plain_forward.plain_twin(tuned, tiny_llama, tmp_path / str(at), trainable=False)
        torch.testing.assert_close(mine, logits_of(twin, ids), rtol=1e-5, atol=2e-5)
    tiny_models.stir(tuned)
    twin = plain_forward.plain_twin(tuned, tiny_llama, tmp_path / "stirred", trainable=False)
    torch.testing.assert_close(logits_of(tuned, ids), logits_of(twin, ids), rtol=1e-5, atol=2e-5)
    tuned.load_adapter(str(tmp_path / "0"), "default")
    first = plain_forward.plain_twin(tuned, tiny_llama, tmp_path / "back", trainable=False)
    assert (logits_of(first, ids) - logits_of(twin, ids)).abs().max() > 0.01
    torch.testing.assert_close(logits_of(tuned, ids), logits_of(first, ids), rtol=1e-5, atol=2e-5)


@every_method
def test_cast_factors_give_the_same_bits(tiny_llama: Path, method: dict[str, Any]) -> None:
    backbone = tiny_models.load(tiny_llama, compute_dtype="bfloat16")
    model = attach_adapter(backbone.model, adapter(**method), seed=1)
    tiny_models.stir(model)
    engine = tiny_models.engine_of(backbone, tiny_models.LABEL_SETS["several"], model.eval())
    prompts = engine.template.encode(tiny_models.TEXTS)
    before = score_prompts(engine, prompts, 4)
    cast_lora_factors(model, torch.bfloat16)
    held = {layer.lora_A["default"].weight.dtype for layer in lora_layers(model)}
    assert held == {torch.float32 if method.get("method") == "dora" else torch.bfloat16}
    np.testing.assert_array_equal(score_prompts(engine, prompts, 4), before)


@pytest.mark.parametrize("targets", [("c_attn",), ("q_proj", "nope"), ("input_layernorm",), ("lm_head_",)])
def test_targets_that_match_nothing(tiny_llama: Path, targets: tuple[str, ...]) -> None:
    with pytest.raises(ModelError) as caught:
        attach_adapter(tiny_models.load(tiny_llama).model, adapter(target_modules=targets), seed=1)
    message = str(caught.value)
    assert message.startswith(f"adapter.target_modules: {targets[-1]} match no linear layer of LlamaForCausalLM")
    assert "its linear layers are down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj" in message
    assert "\n" not in message


@pytest.mark.parametrize("load_in", ["float32", "bfloat16"])
def test_all_linear_leaves_the_output_layer_alone(tiny_llama: Path, load_in: str) -> None:
    tuned = attach_adapter(tiny_models.load(tiny_llama, load_in=load_in).model, adapter(), seed=1)
    names = {name.rsplit(".", 1)[-1] for name, module in tuned.named_modules() if module in lora_layers(tuned)}
    assert names == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


def test_counts(tiny_llama_wide: Path) -> None:
    plain_model = plain_forward.plain_base(tiny_llama_wide)
    total = sum(weight.numel() for weight in plain_model.parameters())
    linear = [
        module
        for name, module in plain_model.named_modules()
        if isinstance(module, torch.nn.Linear) and name != "lm_head"
    ]
    added = sum(4 * (layer.in_features + layer.out_features) for layer in linear)
    outputs = sum(layer.out_features for layer in linear)

    def counted(method: dict[str, Any], **held: Any) -> tuple[int, int]:
        return count_parameters(
            attach_adapter(tiny_models.load(tiny_llama_wide, **held).model, adapter(**method), seed=1)
        )

    assert counted({"method": "lora"}) == (total + added, added)
    assert counted({"method": "dora"}) == (total + added + outputs, added + outputs)
    assert counted({"init": "pissa"}) == (total + 2 * added, added)
    assert counted({"method": "lora"}, load_in="nf4") == (total + added, added)


def test_only_the_adapter_trains(tiny_model: Path) -> None:
    tuned = attach_adapter(tiny_models.load(tiny_model).model, adapter(method="dora"), seed=1)
    assert all("lora_" in name for name, weight in tuned.named_parameters() if weight.requires_grad)
    assert any(weight.requires_grad for weight in tuned.parameters())


def test_an_empty_folder_is_no_adapter(tiny_llama: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no adapter_config\.json; point at the adapter/ folder of a finished run"):
        load_adapter(tiny_models.load(tiny_llama).model, tmp_path)


def test_an_adapter_for_another_model(tiny_llama: Path, tiny_llama_wide: Path, tmp_path: Path) -> None:
    save_adapter(attach_adapter(tiny_models.load(tiny_llama_wide).model, adapter(), seed=1), tmp_path, None)
    with pytest.raises(
        ModelError, match=r"does not fit this model \(.+\); load it onto the model that it was"
    ) as caught:
        load_adapter(tiny_models.load(tiny_llama).model, tmp_path)
    assert "\n" not in str(caught.value)


def test_settings_are_written_in_the_same_order_by_every_process(tiny_llama: Path, tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from transformers import AutoModelForCausalLM\n"
        "from whinchat.models.adapters import attach_adapter, save_adapter\n"
        "from whinchat.recipe.model_config import AdapterConfig\n"
        "model = AutoModelForCausalLM.from_pretrained(sys.argv[1], trust_remote_code=False)\n"
        "save_adapter(attach_adapter(model, AdapterConfig(), 0), Path(sys.argv[2]), None)\n"
    )
    written = set()
    for seed in ("1", "2", "3"):
        folder = tmp_path / seed
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", script, tiny_llama, folder], env=environment, check=True, timeout=120)
        written.add((folder / "adapter_config.json").read_bytes())
    assert len(written) == 1
