"""What a checkpoint is loaded with is known, or refused in one line, before its weights are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Gemma2ForCausalLM, Gemma3ForConditionalGeneration, LlamaForCausalLM

from tests.helpers import tiny_models
from tests.helpers.zoo import ZOO
from whinchat.errors import ModelError
from whinchat.models import backbone
from whinchat.models.device import DevicePlan, Machine, plan_device
from whinchat.models.model_class import fit_attention, fit_float16
from whinchat.recipe.model_config import BackboneConfig

ON_GPU = DevicePlan("cuda", "bfloat16", "bfloat16", "sdpa", double_quant=True, notes=("a note",))


def saved(name: str, folder: Path) -> Path:
    tiny_models.chatml_tokenizer(folder)
    ZOO[name].build(eos=2).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"model_type": "t5"},
            "a t5 model is no causal language model that transformers can load; choose a chat model",
        ),
        ({"model_type": "clip"}, "a clip model is no causal language model that transformers can load"),
        ({"model_type": "newest"}, r"transformers \S+ does not know the architecture newest; upgrade transformers, or"),
        (
            {"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}},
            r"comes with its own Python code \(trust_remote_code\), which whinchat does not run; choose a model whose",
        ),
    ],
)
def test_checkpoints_that_cannot_be_loaded(
    tiny_llama: Path, tmp_path: Path, config: dict[str, Any], message: str
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    for file in tiny_llama.glob("tokenizer*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "own.py").write_text("raise SystemExit('this code must not run')", encoding="utf-8")
    with pytest.raises(ModelError, match=message) as caught:
        tiny_models.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_models_without_sdpa_fall_back_to_eager_attention(tmp_path: Path) -> None:
    assert fit_attention(ON_GPU, "auto", LlamaForCausalLM) == ON_GPU
    plan = fit_attention(ON_GPU, "auto", Gemma2ForCausalLM)
    assert plan.attn_implementation == "eager"
    assert plan.notes == ("a note", "Gemma2ForCausalLM has eager attention only")
    folder = saved("Gemma 2", tmp_path)
    with pytest.raises(ModelError) as caught:
        tiny_models.load(folder, attn_implementation="sdpa")
    assert str(caught.value) == (
        "backbone.attn_implementation: Gemma2ForCausalLM has no sdpa attention; set backbone.attn_implementation=auto"
    )
    assert tiny_models.load(folder).plan.notes == ()


NF4 = {"load_in": "nf4", "compute_dtype": "float32"}


def test_nf4_says_what_it_does_not_hold(tmp_path: Path, tiny_llama_wide: Path) -> None:
    assert tiny_models.load(tiny_llama_wide, **NF4).plan.notes == ()
    (note,) = tiny_models.load(saved("GPT-OSS", tmp_path), **NF4).plan.notes
    assert note.startswith("NF4 holds ")
    assert note.endswith("; experts.gate_up_proj, experts.down_proj keep their data type")


def test_nf4_that_would_hold_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nf4 quantizes plain linear layers, and FalconForCausalLM has none; set"):
        tiny_models.load(saved("Falcon", tmp_path), **NF4)


def test_nf4_holds_the_layers_of_gpt2(tmp_path: Path) -> None:
    folder, ids = saved("GPT-2", tmp_path), torch.tensor([[7, 301, 22, 95, 140]])
    backbones = [tiny_models.load(folder, **held) for held in ({}, NF4)]
    with torch.no_grad():
        exact, narrow = (backbone.model(input_ids=ids).logits.flatten() for backbone in backbones)
    assert torch.corrcoef(torch.stack([exact, narrow]))[0, 1] > 0.9
    assert not torch.allclose(exact, narrow)


T4 = Machine(("cuda",), fast_bfloat16=False, fast_float16=True)


@pytest.mark.parametrize(
    ("asked", "planned"),
    [
        ({}, ("float32", "float32")),
        ({"load_in": "float16"}, ("float32", "float32")),
        ({"load_in": "float32", "compute_dtype": "float16"}, ("float32", "float32")),
        ({"load_in": "nf4"}, ("nf4", "float32")),
    ],
)
@pytest.mark.parametrize("overflowing", [Gemma2ForCausalLM, Gemma3ForConditionalGeneration])
def test_families_that_overflow_in_float16_are_computed_in_float32(
    asked: dict[str, Any], planned: tuple[str, str], overflowing: Any
) -> None:
    plan = plan_device(BackboneConfig(model="any", **asked), T4)
    assert plan.compute_dtype == "float16"
    assert fit_float16(plan, LlamaForCausalLM) == plan
    fitted = fit_float16(plan, overflowing)
    assert (fitted.load_in, fitted.compute_dtype) == planned
    assert fitted.notes == (
        f"{overflowing.config_class.model_type} models overflow in float16; float32 is used instead",
    )


def test_other_data_types_stay() -> None:
    assert fit_float16(ON_GPU, Gemma2ForCausalLM) == ON_GPU


def test_an_overflowing_model_is_loaded_in_float32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = DevicePlan("cpu", "float16", "float16", "eager", double_quant=True)
    monkeypatch.setattr(backbone, "plan_device", lambda _: plan)
    loaded = tiny_models.load(saved("Gemma 2", tmp_path))
    assert loaded.plan.compute_dtype == "float32"
    assert {weight.dtype for weight in loaded.model.parameters()} == {torch.float32}
