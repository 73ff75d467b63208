"""What ``doctor MODEL`` says comes from the configuration and the tokenizer, and is what a run does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.helpers import tiny_models
from tests.helpers.command_line import Whinchat
from tests.helpers.zoo import ZOO
from whinchat.errors import ModelError
from whinchat.export.inspect_model import inspect_model
from whinchat.models.adapters import attach_adapter
from whinchat.models.packed.packed_forward import is_packable
from whinchat.recipe.model_config import AdapterConfig


def without_weights(name: str, folder: Path) -> Path:
    ZOO[name].save(folder)
    for weights in folder.glob("*.safetensors"):
        weights.unlink()
    return folder


@pytest.mark.parametrize(
    ("name", "way", "classifier"),
    [
        ("Llama", "packed", "yes, for answers of one token"),
        ("Gemma 2", "packed", "no: a classification head has no soft cap"),
        ("GPT-2", "cached prefix", "yes, for answers of one token"),
        ("LFM2", "whole sequences", "no: transformers has no sequence classifier for lfm2 models"),
    ],
)
def test_the_way_and_the_exports(name: str, way: str, classifier: str, tmp_path: Path) -> None:
    report = inspect_model(str(without_weights(name, tmp_path)))
    assert (report.way, report.exports["classifier"], report.refused) == (way, classifier, ())
    assert report.parameters == sum(parameter.numel() for parameter in ZOO[name].build().parameters())
    assert 0 < (report.adapted_share or 0) < 1
    assert report.shallow


@pytest.mark.parametrize(
    "names",
    [["Mistral 3", *list(ZOO)[::6]], pytest.param(list(ZOO), marks=pytest.mark.slow)],
    ids=["one in six", "all"],
)
def test_every_architecture_has_a_report(tmp_path: Path, names: list[str]) -> None:
    """A configuration and a tokenizer are enough; what cannot be loaded is refused in one line."""
    refused = []
    tiny_models.chatml_tokenizer(tmp_path / "tokenizer")
    for number, name in enumerate(names):
        folder = shutil.copytree(tmp_path / "tokenizer", tmp_path / str(number))
        ZOO[name].config().save_pretrained(folder)
        try:
            assert inspect_model(str(folder)).parameters > 0
        except ModelError:
            refused.append(name)
    assert refused == ["Mistral 3"]


def test_it_is_what_a_run_does(tiny_llama: Path) -> None:
    report, backbone = inspect_model(str(tiny_llama)), tiny_models.load(tiny_llama, load_in="auto")
    tuned = attach_adapter(backbone.model, AdapterConfig(), seed=1)
    assert (report.way == "packed") == is_packable(tuned, backbone.plan)
    assert report.held_as == backbone.plan.load_in
    assert report.exports["gguf"] == "yes"


def test_refusals_are_listed(tmp_path: Path) -> None:
    folder = without_weights("RWKV", tmp_path)
    (folder / "chat_template.jinja").unlink()
    report = inspect_model(str(folder))
    assert len(report.refused) == 2
    assert "transformers rescales its weights" in report.refused[0]
    assert "no chat template" in report.refused[1]
    with pytest.raises(ModelError, match="its configuration cannot be read"):
        inspect_model(str(tmp_path / "nowhere"))


def test_the_command(whinchat: Whinchat, tmp_path: Path) -> None:
    folder = without_weights("Mamba", tmp_path)
    assert json.loads(whinchat("doctor", str(folder), "--json").out)["architecture"] == "MambaForCausalLM"
    shown = whinchat("doctor", str(folder)).out
    assert "the model's own pass over each whole text" in " ".join(shown.split())
    assert "get no adapter" in shown
