"""Keep the first layers of a model: an ordinary, smaller model folder, written once and loaded like any other.

A classifier needs fewer layers than a chat model. The upper layers contribute least to a fine-tuned classifier, so they
are left out before training. Source: Yuan et al. 2024 (arXiv:2402.11700), section 3.

The folder's config.json names the smaller number of layers, so transformers, PEFT and llama.cpp load the model at its
depth without whinchat.
"""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import torch
from httpx2 import HTTPError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from transformers import AutoConfig

from whinchat.errors import ModelError
from whinchat.models.checkpoint_loading import checkpoint_files, model_folder
from whinchat.models.config_checks import CONFIG_FAULTS, first_line
from whinchat.models.json_files import read_json_object
from whinchat.models.model_cache import find_cached_model, write_cached_model

# Raise this number when the folder's content changes: folders of another version are left alone.
_VERSION = 1
# Model types whose first layers compute the same alone as in the whole model (tests/models/test_shallow_model.py). Each
# type numbers its layers in the names of its weights, and has their number in one setting.
SHALLOW_TYPES = frozenset({
    "apertus", "arcee", "bitnet", "bloom", "codegen", "cohere", "cohere2", "dbrx", "deepseek_v2", "deepseek_v3",
    "diffllama", "ernie4_5", "exaone4", "falcon", "falcon_mamba", "gemma", "gemma2", "gemma3_text", "glm", "glm4",
    "glm4_moe", "gpt2", "gpt_bigcode", "gpt_neox", "gpt_oss", "gptj", "granite", "granitemoe", "helium",
    "hunyuan_v1_dense", "jamba", "jetmoe", "kimi_linear", "lfm2", "lfm2_moe", "llama", "llama4_text", "mamba",
    "minimax", "ministral", "ministral3", "mistral", "mixtral", "mpt", "nemotron", "olmo", "olmo2", "olmo3", "olmoe",
    "opt", "persimmon", "phi", "phi3", "phimoe", "qwen2", "qwen2_moe", "qwen3", "qwen3_5_moe_text", "qwen3_5_text",
    "qwen3_moe", "qwen3_next", "recurrent_gemma", "seed_oss", "smollm3", "stablelm", "starcoder2",
})  # fmt: skip
# The number of the layer in the name of a weight.
_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.")
# Names under which config.json has the number of layers.
_COUNTS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
# Settings with an entry for each layer.
_PER_LAYER = re.compile(r"(.*_)?layer_types|no_rope_layers|layers_block_type")
# Files of a model folder beside its weights.
_COPIED = ("*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken")


def can_be_cut(path: str, revision: str | None) -> bool:
    """Return whether ``shallow_folder`` can cut a model; config.json is read from its folder, or from the hub.

    Args:
        path: a model folder, or OWNER/NAME on the Hugging Face hub.
        revision: branch, tag or commit on the hub; None for a folder.
    """
    config = AutoConfig.from_pretrained(path, revision=revision or "main", trust_remote_code=False)
    return config.model_type in SHALLOW_TYPES


def shallow_folder(path: str, revision: str | None, digest: str, layers: int, name: str) -> Path:
    """Return the folder of a model's first layers, and write it first where the cache lacks it or has it damaged.

    Args:
        path: the folder of the whole model, or OWNER/NAME on the Hugging Face hub.
        revision: branch, tag or commit on the hub; None for a folder.
        digest: what identifies the model's content.
        layers: how many layers to keep.
        name: what messages call the model.

    Raises:
        ModelError: the model has fewer layers, its kind is not known to be right without its upper layers, or its files
            cannot be read.
        OutputError: the folder cannot be written.
    """
    cached = f"{digest[:32]}-first-{layers}-v{_VERSION}"
    if (found := find_cached_model(cached)) is not None:
        return found
    try:
        whole = model_folder(path, revision, _COPIED)
        config = shallow_settings(read_json_object(whole / "config.json"), layers, name)
        files = checkpoint_files(str(whole), None, name)
    except (*CONFIG_FAULTS, SafetensorError, HTTPError) as error:
        raise ModelError(f"{name}: cannot be cut to its first layers: {first_line(error)}") from error
    return write_cached_model(cached, lambda target: _write(whole, files, config, layers, target))


def shallow_settings(config: dict[str, Any], layers: int, name: str) -> dict[str, Any]:
    """Return the content of config.json for a model of ``layers`` layers.

    Args:
        config: the content of the whole model's config.json.
        layers: how many layers to keep.
        name: what messages call the model.

    Raises:
        ModelError: the model has fewer layers, or its kind is not known to be right without its upper layers.
    """
    kind = config.get("model_type")
    if kind not in SHALLOW_TYPES:
        raise ModelError(
            f"{name}: backbone.layers: {kind} models were never tested without their upper layers; remove "
            "backbone.layers, or choose another model"
        )
    # A setting that config.json lacks has the default of the model type.
    whole = AutoConfig.for_model(**config).to_dict()
    count = next(setting for setting in _COUNTS if setting in whole)
    if layers > whole[count]:
        raise ModelError(f"{name}: backbone.layers: {layers} are wanted, and the model has {whole[count]}; lower it")
    per_layer = {key: value[:layers] for key, value in whole.items() if _PER_LAYER.fullmatch(key) and value}
    return config | per_layer | {count: layers}


def _write(folder: Path, files: list[Path], config: dict[str, Any], layers: int, target: Path) -> None:
    """Write the files of the smaller model, with as much memory as the weights kept of one file take.

    Args:
        folder: the whole model.
        files: its weights.
        config: content of the smaller model's config.json.
        layers: how many layers to keep.
        target: where to write.
    """
    copied = {file for pattern in _COPIED for file in folder.glob(pattern)}
    for file in copied - {folder / "config.json", folder / "model.safetensors.index.json"}:
        shutil.copyfile(file, target / file.name)
    weight_map: dict[str, str] = {}
    for file in files:
        with safe_open(file, framework="pt") as shard:
            names = [key for key in shard.keys() if layer_number(key) < layers]  # noqa: SIM118  # a shard is no mapping
            tensors: dict[str, torch.Tensor] = {key: shard.get_tensor(key) for key in names}
        if tensors:
            save_file(tensors, target / file.name, metadata={"format": "pt"})
            weight_map |= dict.fromkeys(tensors, file.name)
    if len(files) > 1:
        index = {"metadata": {}, "weight_map": weight_map}
        (target / "model.safetensors.index.json").write_text(json.dumps(index, indent=2), encoding="utf-8")
    (target / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")


def layer_number(weight: str) -> int:
    """Return the number of the layer that a weight belongs to; -1 for a weight outside the layers."""
    found = _LAYER.search(weight)
    return int(found[1]) if found else -1
