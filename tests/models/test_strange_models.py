"""Model folders from elsewhere are used whole or refused by name, in bounded time and memory."""

from __future__ import annotations

import json
import pickle
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from tests.helpers import tiny_models
from whinchat.errors import ModelError
from whinchat.export.inspect_model import inspect_model

UP = "model.layers.0.mlp.up_proj.weight"
Tensors = dict[str, Tensor]


@pytest.fixture
def folder(tiny_llama: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_llama, tmp_path / "strange"))


def change(folder: Path, edit: Callable[[Tensors], Any]) -> None:
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def configure(folder: Path, **fields: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | fields), encoding="utf-8")


def refusal(folder: Path, **held: Any) -> str:
    """The message, one line, that loading the model gives."""
    started = time.monotonic()
    with pytest.raises(ModelError) as caught:
        tiny_models.load(folder, **held)
    message = str(caught.value)
    assert message.startswith(f"{folder}: ")
    assert "\n" not in message
    assert len(message) < 600
    assert time.monotonic() - started < 15
    return message


@pytest.mark.parametrize("held", [{}, {"load_in": "bfloat16"}, {"load_in": "nf4"}], ids=str)
@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda held: held.pop(UP), "its files lack " + UP),
        (lambda held: held.update({f"x.{UP}": held.pop(UP)}), "its files lack " + UP),
        (lambda held: held.update({"model.layers.7.mlp.up_proj.weight": torch.ones(4, 4)}), "config.json lacks: .*7"),
        (lambda held: held.update({"anything": torch.ones(4)}), "model of config.json lacks: anything"),
        (lambda held: held.update({UP: held[UP].to(torch.int8)}), f"{UP} have type I8, and config.json has no quant"),
        (lambda held: held.update({UP: held[UP].to(torch.float8_e4m3fn)}), f"{UP} have type F8_E4M3"),
        (lambda held: held[UP][3, 5].fill_(torch.nan), f"NaN or infinity in {UP}"),
        (lambda held: held[UP][3, 5].fill_(torch.inf), f"NaN or infinity in {UP}"),
        (lambda held: held["model.norm.weight"][0].fill_(-torch.inf), "NaN or infinity in model.norm.weight"),
        (lambda held: held["model.embed_tokens.weight"][7, 7].fill_(torch.nan), "NaN or infinity in model.embed_tok"),
        (lambda held: held.update({"model.norm.weight": torch.ones(31)}), "weights of other shapes than config.json"),
    ],
    ids=["missing", "renamed", "another layer", "unknown", "int8", "float8", "NaN", "inf", "norm", "rows", "shape"],
)  # fmt: skip
def test_weights_that_do_not_fit(
    folder: Path, edit: Callable[[Tensors], Any], message: str, held: dict[str, Any]
) -> None:
    change(folder, edit)
    assert re.search(message, refusal(folder, **held))


def test_weights_of_parts_that_read_no_text_are_left_out(folder: Path) -> None:
    change(folder, lambda held: held.update({"model.vision_tower.patch.weight": torch.ones(4, 4)}))
    tiny_models.load(folder)


def test_masks_that_earlier_releases_of_transformers_stored_are_left_out(folder: Path) -> None:
    # As EleutherAI/gpt-neo-125m, EleutherAI/gpt-j-6b and copies of GPT-2 hold them.
    mask = torch.ones(1, 1, 8, 8, dtype=torch.uint8)
    old = {"h.0.attn.masked_bias": torch.tensor(-1e9), "h.0.attn.bias": mask, "h.0.attn.attention.bias": mask.bool()}
    change(folder, lambda held: held.update(old))
    tiny_models.load(folder)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_hidden_layers": 1}, r"model of config\.json lacks: model\.layers\.1\."),
        ({"num_hidden_layers": 3}, r"its files lack model\.layers\.2\."),
        ({"num_hidden_layers": 10**6}, "sets num_hidden_layers to 1000000, more than the 2,000 that whinchat builds"),
        ({"vocab_size": 500}, "weights of other shapes than config.json says"),
        ({"vocab_size": 10**12}, "weights of other shapes than config.json says"),
        ({"vocab_size": 10**18}, "cannot be loaded"),
        ({"hidden_size": 10**9}, "weights of other shapes than config.json says"),
        ({"hidden_size": -4}, "cannot be loaded"),
        ({"hidden_size": "x"}, "config.json cannot be loaded: .*hidden_size"),
        ({"hidden_size": None}, "config.json cannot be loaded: .*hidden_size"),
        ({"num_attention_heads": 0}, "config.json cannot be loaded"),
        ({"hidden_act": "evil"}, "cannot be loaded: 'evil'"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": "x", "rope_theta": 1e4}}, "cannot be loaded"),
        ({"rope_parameters": 7}, "config.json cannot be loaded"),
        ({"model_type": ["llama"]}, "config.json cannot be loaded"),
        ({"dtype": "evil"}, "config.json cannot be loaded"),
        ({"quantization_config": [1]}, "cannot be loaded"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "cannot be loaded"),
        ({"transformers_weights": "../../x.safetensors"}, "config.json names a file of weights"),
    ],
    ids=str,
)
def test_a_config_that_does_not_fit(folder: Path, fields: dict[str, Any], message: str) -> None:
    configure(folder, **fields)
    assert re.search(message, refusal(folder))
    if "num_hidden_layers" in message:
        with pytest.raises(ModelError, match=message):
            inspect_model(str(folder))


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize(
    "content", [b"", b"[]", b"7", b'{"a":' * 100_000, b"\xff\xfe{}"], ids=lambda content: content[:9]
)
def test_settings_that_are_no_json_object(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    assert re.search("cannot be (loaded|read): ", refusal(folder))


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "consolidated.00.pth", "model.pt", "tf_model.h5", "flax_model.msgpack"]
)
def test_pickles_are_not_opened(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("a pickle was opened"))
    monkeypatch.setattr(pickle, "Unpickler", lambda *_, **__: pytest.fail("a pickle was opened"))
    (folder / "model.safetensors").rename(folder / name)
    message = refusal(folder)
    assert f"has no model.safetensors, only {name}, a format that can run code when it is read" in message
    assert "AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER)" in message


def test_an_adapter_beside_a_model_is_no_model(folder: Path) -> None:
    """transformers would load the model that the adapter names in its place."""
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "/nowhere"}')
    assert "holds an adapter (adapter_config.json); name the model that it was trained on" in refusal(folder)


@pytest.fixture
def sharded(folder: Path) -> Path:
    AutoModelForCausalLM.from_pretrained(folder).save_pretrained(folder, max_shard_size="40KB")
    (folder / "model.safetensors").unlink()
    tiny_models.load(folder)
    return folder


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("missing", r"index\.json names model-00002-of-\d+\.safetensors, which are missing; fetch it again"),
        ("elsewhere", r"index\.json names x\.safetensors, which are missing"),
        ("doubled", "several shards hold "),
        ("unlisted", "its files lack "),
        ("truncated", "cannot be loaded: "),
        ("list", "has no weight_map from names to files"),
        ("numbers", "has no weight_map from names to files"),
        ("text", "it is not JSON"),
    ],
)
def test_shards_and_their_index(sharded: Path, tmp_path: Path, fault: str, message: str) -> None:
    index = sharded / "model.safetensors.index.json"
    content = json.loads(index.read_text(encoding="utf-8"))
    first, second = sorted(sharded.glob("*.safetensors"))[:2]
    if fault == "missing":
        second.unlink()
    elif fault == "elsewhere":
        shutil.move(second, tmp_path / "x.safetensors")
        names = {
            name: "../x.safetensors" if file == second.name else file for name, file in content["weight_map"].items()
        }
        index.write_text(json.dumps({"weight_map": names}), encoding="utf-8")
    elif fault == "doubled":
        save_file(load_file(second) | {name: tensor + 1 for name, tensor in load_file(first).items()}, second)
    elif fault == "unlisted":
        names = {name: file for name, file in content["weight_map"].items() if file != second.name}
        index.write_text(json.dumps({"weight_map": names}), encoding="utf-8")
    elif fault == "truncated":
        second.write_bytes(second.read_bytes()[:-9])
    else:
        new = {"list": "[]", "numbers": '{"weight_map": {"a": 7}}', "text": "{"}[fault]
        index.write_text('{"weight_map": []}' if fault == "list" else new, encoding="utf-8")
    assert re.search(message, refusal(sharded))


def test_links_to_files_elsewhere_are_followed(tiny_llama: Path, tmp_path: Path) -> None:
    """The cache of the hub holds links only."""
    for file in tiny_llama.iterdir():
        (tmp_path / file.name).symlink_to(file)
    tiny_models.load(tmp_path)
