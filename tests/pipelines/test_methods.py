"""Train every adapter method on every weight data type, and run the published recipes on tiny models."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from bitsandbytes.nn import Linear4bit
from huggingface_hub import ModelCard

from tests.helpers import finished_runs, tiny_models
from tests.helpers.combinations import half_of
from whinchat.evaluation.scoring import score_prompts
from whinchat.inference.predictor import load_engine
from whinchat.models.adapter_targets import lora_layers
from whinchat.models.backbone import load_backbone
from whinchat.models.forward import Engine
from whinchat.pipelines.run import run, train_run
from whinchat.recipe.loader import load_recipe
from whinchat.storage.run_folder import RunFolder
from whinchat.training.prepare import prepare_run
from whinchat.training.train import train

WEIGHT_SETTINGS = {
    "float32": {"load_in": "float32"},
    "bfloat16": {"load_in": "bfloat16"},
    "nf4": {"load_in": "nf4", "double_quant": False},
    "nf4-double": {"load_in": "nf4", "double_quant": True},
}


@pytest.mark.parametrize(
    ("method", "init", "weight_settings"),
    half_of(("lora", "dora", "rslora"), ("default", "pissa"), WEIGHT_SETTINGS.values()),
)
def test_every_method_trains_and_loads_again(
    tiny_llama_wide: Path, tmp_path: Path, method: str, init: str, weight_settings: dict[str, Any]
) -> None:
    recipe = finished_runs.recipe_for(
        tiny_llama_wide,
        finished_runs.write_csv(tmp_path / "texts.csv", rows=30),
        data={"validation_rows": 6},
        backbone=weight_settings,
        adapter={"method": method, "init": init},
        train={"max_steps": 2, "eval_steps": None, "learning_rate": 1e-2},
    )
    corpus, backbone, template = prepare_run(recipe)
    folder = RunFolder(tmp_path / "run")
    folder.write_recipe(recipe)
    prompts = template.encode(tiny_models.TEXTS)
    untrained = score_prompts(Engine.build(backbone.model, backbone.plan, template), prompts, 8)
    engine, training = train(recipe, corpus, backbone, template, folder.checkpoints, folder.adapter)
    assert training.steps == 2
    assert all(point.loss is not None for point in training.history)
    trained = score_prompts(engine, prompts, 8)
    _, loaded = load_engine(folder.path)
    np.testing.assert_allclose(score_prompts(loaded, prompts, 8), trained, rtol=0, atol=1e-5)
    assert np.abs(trained - untrained).max() > 1e-3
    if weight_settings["load_in"] == "nf4":
        bases = [layer.get_base_layer() for layer in lora_layers(loaded.model)]
        assert bases
        assert all(isinstance(base, Linear4bit) and base.weight.quant_type == "nf4" for base in bases)
        assert all(base.weight.quant_state.nested == weight_settings["double_quant"] for base in bases)


@pytest.mark.parametrize(
    "schedule",
    [
        "constant_with_warmup",
        "polynomial",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("linear", "cosine", "constant", "inverse_sqrt")),
    ],
)
def test_every_schedule_trains(tiny_mistral: Path, tmp_path: Path, schedule: str) -> None:
    source = finished_runs.write_csv(tmp_path / "texts.csv", rows=30)
    settings = {"max_steps": 3, "eval_steps": None, "lr_scheduler_type": schedule, "warmup_steps": 1}
    recipe = finished_runs.recipe_for(tiny_mistral, source, data={"validation_rows": 6}, train=settings)
    assert train_run(recipe, tmp_path / "run")[1].steps == 3


PUBLISHED = {
    "tinyllama-qlora-as-published": ("tiny_llama_wide", 0.14, 0.51),
    "tinyllama-qlora": ("tiny_llama_wide", 0.14, 0.51),
    "lite-oute-dora-as-published": ("tiny_mistral", 0.06, 0.46),
    "lite-oute-dora": ("tiny_mistral", 0.06, 0.46),
    "lite-oute-lora-as-published": ("tiny_mistral", 0.06, 0.51),
}


# One of NF4 with LoRA, one of DoRA; what the others set is tried in other tests, on other recipes.
_QUICK = {"tinyllama-qlora-as-published", "lite-oute-dora"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in _QUICK else pytest.mark.slow) for name in PUBLISHED]
)
def test_recipes_of_published_models_make_a_finished_run_folder(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    fixture, before, after = PUBLISHED[name]
    model: Path = request.getfixturevalue(fixture)
    # Only the model, the data and their amount differ from the recipe.
    recipe = load_recipe(
        name,
        [
            f"backbone.model={model}",
            f"data.source={finished_runs.write_tweeteval(tmp_path / 'tweets')}",
            "data.config=null",
            "data.train_rows=40",
            "train.num_train_epochs=1",
            "evaluate.rows=20",
            *(["backbone.load_in=float32"] if load_recipe(name).backbone.load_in == "auto" else []),
        ],
    )
    run(recipe, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    record = folder.read()
    assert record.recipe.adapter == load_recipe(name).adapter
    assert record.after.split == "test"
    assert record.after.score.n == 20
    assert record.after.generate is not None
    train = record.recipe.train
    assert record.manifest.train_steps == -(
        -40 // (train.per_device_train_batch_size * train.gradient_accumulation_steps)
    )
    assert record.after.generate_first_word is not None
    assert record.manifest.load_in == recipe.backbone.load_in
    assert record.manifest.splits["train"].rows == 40
    assert pq.read_table(folder.predictions).num_rows == 20
    assert record.recipe.reference is not None
    report, card = folder.report.read_text(encoding="utf-8"), folder.card.read_text(encoding="utf-8")
    for page in (report, card):
        assert record.recipe.reference.title in page
        assert f"{before:.2f}" in page
        assert f"{after:.2f}" in page
        assert not re.search("as[- ]published", page), "another model on other rows"
    if name.endswith("-as-published"):
        assert f"| backbone.model | {load_recipe(name).backbone.model} |" in card
        assert "| data.train\\_rows | " in card
    assert ModelCard(card).data.eval_results
    config = json.loads((folder.adapter / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["use_dora"] == name.startswith("lite-oute-dora")
    if recipe.adapter.target_modules != "all-linear":
        assert set(config["target_modules"]) == set(recipe.adapter.target_modules)
    _, engine = load_engine(folder.path)
    table = pq.read_table(folder.predictions)
    again = score_prompts(engine, engine.template.encode(table["text"].to_pylist()), 64)
    stored = np.array([table[f"after_log_prob_{label}"].to_pylist() for label in finished_runs.SENTIMENT]).T
    np.testing.assert_allclose(again, stored, rtol=0, atol=1e-5)


def test_the_qlora_recipe_loads_nf4_weights(tiny_llama_wide: Path) -> None:
    recipe = load_recipe("tinyllama-qlora-as-published", [f"backbone.model={tiny_llama_wide}"])
    backbone = load_backbone(recipe.backbone)
    linear = [module for module in backbone.model.modules() if isinstance(module, Linear4bit)]
    assert len(linear) == 2 * 7
    assert all(module.weight.dtype == torch.uint8 and module.weight.quant_type == "nf4" for module in linear)
    assert all(module.weight.quant_state.nested for module in linear)
    # The prompt has Zephyr's format, the published instruction and one BOS token.
    template = backbone.tokenizer.template(recipe)
    prompt = template.encode(["so happy today"])[0]
    shown = template.tokenizer.decode(prompt.ids)
    assert prompt.ids.count(1) == 1
    assert "<|system|>\nYou are a tweet sentiment classifier." in shown
    assert shown.rstrip().endswith("<|assistant|>")
