"""Model folders of real shapes with random weights, made once and kept in the cache.

Speed and memory do not depend on what the weights are. ``python -m benchmarks.shapes NAME --workload FILE`` makes one
in a process of its own, a few tensors at a time, and prints its folder.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.workload import RECIPE, Workload
from whinchat.data.packages import cache_folder
from whinchat.recipe.loader import load_recipe

# TinyLlama-1.1B-Chat-v1.0's own config.
TINYLLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 32000,
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_hidden_layers": 22,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "tie_word_embeddings": False,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "max_position_embeddings": 2048,
    "hidden_act": "silu",
    "bos_token_id": 1,
    "eos_token_id": 2,
    "dtype": "bfloat16",
}
# A Mistral of 298 M parameters. Lite-Oute-1-300M's own numbers cannot be had here; its kind and size are these.
MISTRAL_300M: dict[str, Any] = {
    "architectures": ["MistralForCausalLM"],
    "model_type": "mistral",
    "vocab_size": 49152,
    "hidden_size": 1024,
    "intermediate_size": 2816,
    "num_hidden_layers": 21,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "tie_word_embeddings": True,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "max_position_embeddings": 4096,
    "sliding_window": 4096,
    "hidden_act": "silu",
    "bos_token_id": 1,
    "eos_token_id": 2,
    "dtype": "bfloat16",
}
SHAPES = {"tinyllama-shape": TINYLLAMA, "mistral-300m-shape": MISTRAL_300M}
_SHARD_BYTES = 400_000_000
_READY = "ready.json"


def shape_folder(name: str, workload: Workload, shelf: Path | None = None) -> Path:
    """The folder of a shape, made where the cache lacks it.

    TinyLlama's gets a tokenizer of Llama's family, trained on the workload; the Mistral takes SmolLM2's.
    """
    folder = (shelf or cache_folder() / "benchmarks") / name
    wanted = {"config": SHAPES[name], "texts": _digest(workload) if name == "tinyllama-shape" else None}
    ready = folder / _READY
    if ready.is_file() and json.loads(ready.read_text(encoding="utf-8")) == wanted:
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target, hence on the same file system: a killed process leaves no half of a model under its name.
    with tempfile.TemporaryDirectory(prefix=".shape-", dir=folder.parent) as scratch:
        fresh = Path(scratch) / name
        fresh.mkdir()
        write_weights(SHAPES[name], fresh)
        _write_tokenizer(name, workload, fresh)
        (fresh / _READY).write_text(json.dumps(wanted), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        fresh.replace(folder)
    return folder


def write_weights(config: dict[str, Any], folder: Path) -> None:
    """``config.json`` and sharded bfloat16 weights, normal(0, 0.02), norms one; a shard at a time in memory."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoConfig, AutoModelForCausalLM

    (folder / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}  # tied ones once
    draw = torch.Generator().manual_seed(0)
    weight_map: dict[str, str] = {}
    shard: dict[str, torch.Tensor] = {}
    left = len(shapes)
    for name, shape in shapes.items():
        norm = name.endswith("norm.weight")
        dense = torch.ones(shape) if norm else torch.empty(shape).normal_(0, 0.02, generator=draw)
        shard[name] = dense.to(torch.bfloat16)
        left -= 1
        if left == 0 or sum(2 * one.numel() for one in shard.values()) > _SHARD_BYTES:
            file = f"model-{len(set(weight_map.values())) + 1:05d}.safetensors"
            save_file(shard, folder / file, metadata={"format": "pt"})
            weight_map |= dict.fromkeys(shard, file)
            shard = {}
    index = {"metadata": {"total_size": sum(2 * _count(shape) for shape in shapes.values())}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def _count(shape: tuple[int, ...]) -> int:
    total = 1
    for side in shape:
        total *= side
    return total


def _write_tokenizer(name: str, workload: Workload, folder: Path) -> None:
    from benchmarks.tokenizer import llama_tokenizer
    from whinchat.models.backbone import find_model, load_tokenizer

    recipe = load_recipe(RECIPE)
    if name == "tinyllama-shape":
        llama_tokenizer(folder, workload.texts, (recipe.task.instruction,))
    else:
        load_tokenizer(find_model(recipe.backbone)).tokenizer.save_pretrained(folder)


def _digest(workload: Workload) -> str:
    return hashlib.sha256("\n".join(workload.texts[:4000]).encode()).hexdigest()[:16]


def main() -> None:
    """Make one shape and print its folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=sorted(SHAPES))
    parser.add_argument("--workload", type=Path, required=True)
    arguments = parser.parse_args()
    print(shape_folder(arguments.name, Workload.load(arguments.workload)))


if __name__ == "__main__":
    main()
