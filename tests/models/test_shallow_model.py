"""A model of the first layers computes what the whole model computes without its upper layers."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from tests.helpers import hub_server, tiny_models
from tests.helpers.finished_runs import recipe_for, write_csv
from tests.helpers.zoo import ZOO
from whinchat.errors import ModelError, WhinchatError
from whinchat.inference.predictor import Predictor
from whinchat.models.backbone import find_model, load_backbone
from whinchat.models.parameter_count import configured_model
from whinchat.models.shallow_model import SHALLOW_TYPES
from whinchat.pipelines.run import run
from whinchat.recipe.model_config import BackboneConfig

_TESTED = [name for name, kind in ZOO.items() if kind.outer is None and kind.model_type in SHALLOW_TYPES]
# Layers of two kinds, a fused norm, experts, and the names of GPT-2 and its like.
_QUICK = {"Gemma 3 text", "Llama 4", "Mixtral", "GPT-2", "MPT"}
IDS = torch.arange(3, 40)[None]


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The smaller models are written here."""
    monkeypatch.setenv("WHINCHAT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def logits_without(folder: Path, kept: int) -> torch.Tensor:
    """Logits of the whole model, whose layers from ``kept`` on return what they are given."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    count = model.config.num_hidden_layers
    # The outermost list; there may be as many experts.
    lists = (module for module in model.modules() if isinstance(module, torch.nn.ModuleList) and len(module) == count)
    layers = next(lists)
    returns_tuple: list[bool] = []
    hook = layers[0].register_forward_hook(lambda module, _, output: returns_tuple.append(isinstance(output, tuple)))
    with torch.no_grad():
        model(input_ids=IDS, use_cache=False)
        hook.remove()
        for layer in list(layers)[kept:]:
            layer.forward = lambda states, *rest, **more: (states, None) if returns_tuple[0] else states
        logits: torch.Tensor = model(input_ids=IDS, use_cache=False).logits
    return logits


def logits_of(folder: Path, layers: int | None = None) -> torch.Tensor:
    settings = BackboneConfig(
        model=str(folder), layers=layers, load_in="float32", device="cpu", attn_implementation="eager"
    )
    with torch.no_grad():
        logits: torch.Tensor = load_backbone(settings).model(input_ids=IDS, use_cache=False).logits
    return logits


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in _QUICK else pytest.mark.slow) for name in _TESTED]
)
def test_every_depth_of_every_kind_of_model(name: str, tmp_path: Path) -> None:
    folder = ZOO[name].save(tmp_path / "model")
    count = ZOO[name].config().num_hidden_layers
    whole = logits_of(folder)
    for layers in range(1, count):
        wanted = logits_without(folder, layers)
        assert (logits_of(folder, layers) - wanted).abs().max() <= 1e-5 * wanted.std()
        assert (whole - wanted).abs().max() > 0.01 * wanted.std(), "the upper layers change nothing"


def test_every_allowed_type_is_tested() -> None:
    assert {ZOO[name].model_type for name in _TESTED} == SHALLOW_TYPES


def test_the_folder_is_a_model_of_its_own(tiny_llama: Path, own_cache: Path) -> None:
    settings = BackboneConfig(model=str(tiny_llama), layers=1)
    source, whole = find_model(settings), find_model(BackboneConfig(model=str(tiny_llama)))
    folder = Path(source.path)
    assert (source.name, source.commit) == (whole.name, whole.commit), "the same model is recorded"
    assert json.loads((folder / "config.json").read_text(encoding="utf-8"))["num_hidden_layers"] == 1
    weights, all_weights = (load_file(path / "model.safetensors") for path in (folder, tiny_llama))
    assert weights.keys() < all_weights.keys()
    assert all(torch.equal(weight, all_weights[name]) for name, weight in weights.items())
    files = {file.name for file in folder.iterdir() if not file.name.startswith(".")}
    assert files == {file.name for file in tiny_llama.iterdir()}
    written = (folder / "model.safetensors").stat().st_mtime_ns
    assert find_model(settings).path == source.path
    assert (folder / "model.safetensors").stat().st_mtime_ns == written, "written once"
    assert [entry.name for entry in (own_cache / "models").iterdir()] == [folder.name], "no draft is left"


def test_shards(tiny_llama: Path, tmp_path: Path) -> None:
    model: Any = AutoModelForCausalLM.from_pretrained(tiny_llama)
    tiny_models.chatml_tokenizer(tmp_path / "sharded")
    model.save_pretrained(tmp_path / "sharded", max_shard_size="20KB")
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 2
    torch.testing.assert_close(logits_of(tmp_path / "sharded", 1), logits_of(tiny_llama, 1), rtol=0, atol=0)


def test_a_model_that_cannot_be_read_is_one_error(tiny_llama: Path, tmp_path: Path) -> None:
    model = shutil.copytree(tiny_llama, tmp_path / "model")
    weights = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(weights[:-1])
    with pytest.raises(ModelError, match=r"model: cannot be cut to its first layers: .*incomplete metadata"):
        find_model(BackboneConfig(model=str(model), layers=1))
    (model / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config\.json cannot be loaded: it is not JSON"):
        find_model(BackboneConfig(model=str(model), layers=1))


def test_a_model_on_the_hub(tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with hub_server.serve() as hub:
        hub_server.in_this_process(hub, tmp_path, monkeypatch)
        repository = hub_server.Repository()
        repository.add({file.name: file.read_bytes() for file in tiny_llama.iterdir()})
        hub.repositories["ann/tiny"] = repository
        backbone = load_backbone(BackboneConfig(model="ann/tiny", layers=1, load_in="float32"))
    assert backbone.source.hub_id == "ann/tiny"
    assert backbone.source.commit == repository.main
    with torch.no_grad():
        logits = backbone.model(input_ids=IDS, use_cache=False).logits
    torch.testing.assert_close(logits, logits_of(tiny_llama, 1), rtol=1e-5, atol=1e-5)


def test_all_layers_are_the_whole_model(tiny_llama: Path) -> None:
    torch.testing.assert_close(logits_of(tiny_llama, 2), logits_of(tiny_llama), rtol=0, atol=0)


def test_what_is_refused(tiny_llama: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=re.escape("backbone.layers: 3 are wanted, and the model has 2; lower it")):
        find_model(BackboneConfig(model=str(tiny_llama), layers=3))
    folder = ZOO["Zamba2"].save(tmp_path / "zamba2")
    with pytest.raises(ModelError, match=r"zamba2 models were never tested without their upper layers; remove"):
        find_model(BackboneConfig(model=str(folder), layers=1))
    assert not list(tmp_path.glob("cache/models/*")), "nothing is written"


def test_the_size_is_known_without_weights(tiny_llama: Path) -> None:
    loaded = load_backbone(BackboneConfig(model=str(tiny_llama), layers=1)).model
    foretold = configured_model(str(tiny_llama), layers=1)
    assert foretold is not None
    assert foretold.num_parameters() == loaded.num_parameters()


def shallow_run(model: Path, tmp_path: Path) -> Path:
    """A finished run on the first layer of ``model``."""
    recipe = recipe_for(model, write_csv(tmp_path / "texts.csv"), backbone={"model": str(model), "layers": 1})
    run(recipe, tmp_path / "run")
    return tmp_path / "run"


def test_a_run_and_its_adapter_without_whinchat(tiny_llama: Path, tmp_path: Path) -> None:
    folder = shallow_run(tiny_llama, tmp_path)
    config = json.loads((folder / "adapter" / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["base_model_name_or_path"] == "", "PEFT must not find a model of more layers"
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert ", cut to its first layer." in card
    assert "num_hidden_layers=1" in card
    predictor = Predictor.load(folder)
    base: Any = AutoModelForCausalLM.from_pretrained(tiny_llama, num_hidden_layers=1, dtype=torch.float32)
    plain = PeftModel.from_pretrained(base, folder / "adapter").eval()
    ids = torch.tensor([predictor.engine.template.encode(["good"])[0].ids])
    with torch.no_grad():
        found, wanted = predictor.engine.model(input_ids=ids).logits, plain(input_ids=ids).logits
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_the_adapter_fits_no_other_depth(tiny_llama: Path, tmp_path: Path) -> None:
    folder = shallow_run(tiny_llama, tmp_path)
    recipe = folder / "adapter" / "recipe.yaml"
    content = recipe.read_text(encoding="utf-8")
    assert "  layers: 1\n" in content
    recipe.write_text(content.replace("  layers: 1\n", ""), encoding="utf-8")
    (folder / "adapter" / "checksums.json").unlink()
    with pytest.raises(WhinchatError, match="was trained on another model"):
        Predictor.load(folder / "adapter")
