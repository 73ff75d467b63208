"""Parameters counted from a configuration alone equal those of the loaded model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from tests.helpers import tiny_models
from whinchat.errors import DataError
from whinchat.models.adapters import count_parameters
from whinchat.models.parameter_count import configured_model


def configured_size(model: str) -> int | None:
    skeleton = configured_model(model)
    return None if skeleton is None else sum(parameter.numel() for parameter in skeleton.parameters())


@pytest.mark.parametrize("tied", [False, True])
def test_a_folder_without_weights_is_enough(tiny_llama: Path, tmp_path: Path, tied: bool) -> None:
    config = json.loads((tiny_llama / "config.json").read_text(encoding="utf-8")) | {"tie_word_embeddings": tied}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    counted = configured_size(str(tmp_path))
    untied = count_parameters(AutoModelForCausalLM.from_pretrained(tiny_llama))[0]
    assert counted == untied - tied * config["vocab_size"] * config["hidden_size"]


def test_a_package_that_was_converted_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WHINCHAT_CACHE", str(tmp_path))
    assert configured_size("package:smollm2-135m-instruct") is None
    model = tiny_models.make_llama(tmp_path / "models" / "SmolLM2-135M-Instruct.Q4_1-v1")
    assert configured_size("package:smollm2-135m-instruct") == configured_size(str(model))


def test_configurations_out_of_reach(tmp_path: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    assert configured_size("TinyLlama/TinyLlama-1.1B-Chat-v1.0") is None
    assert configured_size(str(tmp_path / "nowhere")) is None
    shutil.copy(tiny_llama / "tokenizer.json", tmp_path)
    assert configured_size(str(tmp_path)) is None
    (tmp_path / "config.json").write_text('{"model_type": "not-in-transformers"}', encoding="utf-8")
    assert configured_size(str(tmp_path)) is None
    with pytest.raises(DataError, match="package:nothing: not in the catalog"):
        configured_size("package:nothing")
