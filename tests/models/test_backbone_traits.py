"""An adapter is recognized on every copy of the model that it was trained on, and refused on any other."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from tests.helpers import tiny_models
from tests.helpers.finished_runs import finished_run
from whinchat.errors import ModelError
from whinchat.export.merged import merge
from whinchat.inference.predictor import Predictor
from whinchat.models.backbone_traits import BASE_MODEL_FILE
from whinchat.server.served_models import ModelHost
from whinchat.storage.locate import find_classifier


@pytest.fixture
def trained(tiny_model: Path, tmp_path: Path) -> Path:
    """Folder of the traits that an adapter on ``tiny_model`` has."""
    folder = tmp_path / "adapter"
    folder.mkdir()
    tiny_models.load(tiny_model).traits.save(folder)
    return folder


def copy_of(model: Path, folder: Path, **config: Any) -> Path:
    """A copy of a model's folder with some settings changed."""
    shutil.copytree(model, folder)
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(settings | config), encoding="utf-8")
    return folder


def change(model: Path, name: str, factor: float) -> None:
    """Multiply the weights called ``name``."""
    tensors: dict[str, Tensor] = load_file(model / "model.safetensors")
    tensors[name] = tensors[name] * factor
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})


def check(model: Path, trained: Path, **backbone: Any) -> None:
    tiny_models.load(model, **backbone).traits.check(trained, "OTHER")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_copies_in_other_types_and_shards_pass(tiny_model: Path, trained: Path, tmp_path: Path, dtype: Any) -> None:
    copied = copy_of(tiny_model, tmp_path / "copied")
    (copied / "model.safetensors").unlink()
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=dtype)
    model.save_pretrained(copied, max_shard_size="50KB")
    assert len(list(copied.glob("*.safetensors"))) > 1
    check(copied, trained)


@pytest.mark.parametrize("load_in", ["float32", "bfloat16", "nf4"])
def test_the_type_in_memory_does_not_matter(tiny_model: Path, trained: Path, load_in: str) -> None:
    check(tiny_model, trained, load_in=load_in)


def test_a_hundredth_more_in_one_weight_is_refused(tiny_model: Path, trained: Path, tmp_path: Path) -> None:
    copied, name = copy_of(tiny_model, tmp_path / "copied"), "model.layers.1.mlp.down_proj.weight"
    change(copied, name, 1.01)
    with pytest.raises(ModelError, match=f"was trained on another model than OTHER, .* {name} differ; "):
        check(copied, trained)


@pytest.mark.parametrize(
    "config",
    [
        {"rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0}},
        {"rms_norm_eps": 1e-3},
        {"hidden_act": "gelu"},
        {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16},
    ],
    ids=lambda config: next(iter(config)),
)
def test_other_settings_are_refused(tiny_llama: Path, tmp_path: Path, config: dict[str, Any]) -> None:
    tiny_models.load(tiny_llama).traits.save(tmp_path)
    copied = copy_of(tiny_llama, tmp_path / "copied", **config)
    with pytest.raises(ModelError, match=f"wrongly: .*{next(iter(config))}.* differ"):
        check(copied, tmp_path)


def test_settings_that_change_nothing_pass(tiny_llama: Path, tmp_path: Path) -> None:
    tiny_models.load(tiny_llama).traits.save(tmp_path)
    unknown = {
        "transformers.js_config": {"a": 1},
        "use_cache": False,
        "initializer_range": 0.3,
        "transformers_version": "9",
    }
    check(copy_of(tiny_llama, tmp_path / "copied", **unknown), tmp_path)


def test_settings_of_another_release_of_transformers_pass(tiny_llama: Path, tmp_path: Path) -> None:
    """A release may know settings that the one that trained did not, and may have dropped others."""
    traits = tiny_models.load(tiny_llama).traits
    traits.save(tmp_path)
    content = json.loads((tmp_path / BASE_MODEL_FILE).read_text(encoding="utf-8"))
    content["settings"] = {"rope_scale_of_old": 3, "rope_parameters": {"old": 1}}
    (tmp_path / BASE_MODEL_FILE).write_text(json.dumps(content), encoding="utf-8")
    check(tiny_llama, tmp_path)


def test_an_adapter_of_version_0_1_has_no_traits(tiny_llama: Path, tmp_path: Path) -> None:
    check(tiny_llama, tmp_path)


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"settings": {}, "weights": 1}', '{"settings": {}, "weights": {"a": [1.0]}}'],
)
def test_a_damaged_file_is_refused(tiny_llama: Path, tmp_path: Path, content: str) -> None:
    (tmp_path / BASE_MODEL_FILE).write_text(content, encoding="utf-8")
    with pytest.raises(ModelError, match=r"base_model\.json: damaged: "):
        check(tiny_llama, tmp_path)


def test_traits_of_a_model_with_other_names_are_refused(tiny_llama: Path, tmp_path: Path) -> None:
    (tmp_path / BASE_MODEL_FILE).write_text(
        '{"settings": {}, "weights": {"gone": [1.0, 2.0, 3.0, 4.0]}}', encoding="utf-8"
    )
    with pytest.raises(ModelError, match="gone differ"):
        check(tiny_llama, tmp_path)


@pytest.mark.parametrize("use", ["predict", "serve", "merge"])
def test_no_use_of_a_run_on_another_model(tiny_llama: Path, tmp_path: Path, use: str) -> None:
    other = copy_of(tiny_llama, tmp_path / "other")
    change(other, "model.embed_tokens.weight", 1.05)
    run = Path(shutil.copytree(finished_run(tiny_llama), tmp_path / "run"))
    for recipe in (run / "recipe.yaml", run / "adapter" / "recipe.yaml"):
        recipe.write_text(recipe.read_text(encoding="utf-8").replace(str(tiny_llama), str(other)), encoding="utf-8")
    with pytest.raises(ModelError, match=r"adapter: was trained on another model than .*embed_tokens"):
        {
            "predict": lambda: Predictor.load(run),
            "serve": lambda: ModelHost.load({"run": run}),
            "merge": lambda: merge(find_classifier(run)),
        }[use]()
