"""Model folders of real shapes with random weights, made once and kept in the cache.

Speed and memory do not depend on the values of the weights.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tests.helpers.llama_tokenizer import save_llama_tokenizer, train_llama_tokenizer
from transformers import AutoConfig, AutoModelForCausalLM

from benchmarks.plan import RECIPE
from whinchat.data.packages import cache_folder
from whinchat.models.backbone import find_model, load_tokenizer
from whinchat.recipe.loader import load_recipe

_SHARED = {"rms_norm_eps": 1e-5, "rope_theta": 10000.0, "bos_token_id": 1, "eos_token_id": 2, "dtype": "bfloat16"}
SHAPES: dict[str, dict[str, Any]] = {
    # The configuration of TinyLlama-1.1B-Chat-v1.0.
    "tinyllama-shape": {
        "model_type": "llama", "vocab_size": 32000, "hidden_size": 2048, "intermediate_size": 5632,
        "num_hidden_layers": 22, "num_attention_heads": 32, "num_key_value_heads": 4, "max_position_embeddings": 2048,
        "tie_word_embeddings": False, **_SHARED,
    },
    # A Mistral of 298 M parameters, of the kind and about the size of Lite-Oute-1-300M.
    "mistral-300m-shape": {
        "model_type": "mistral", "vocab_size": 49152, "hidden_size": 1024, "intermediate_size": 2816,
        "num_hidden_layers": 21, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 64,
        "max_position_embeddings": 4096, "sliding_window": 4096, "tie_word_embeddings": True, **_SHARED,
    },
}  # fmt: skip
TOKENS_A_TEXT = 30
# Tried in turn: more pieces make shorter texts. All stay below TinyLlama's 32,000.
LEARNED_PIECES = (1000, 1500, 2000, 3000, 4000, 6000, 8000, 12000, 16000)
WORDS = "negative neutral positive system user assistant"


def shape_folder(name: str, texts: Sequence[str], cache: Path | None = None) -> Path:
    """Return the folder of a shape, which is made where the cache lacks it.

    TinyLlama's shape gets a tokenizer of Llama's family, trained on the texts; the Mistral gets SmolLM2's.
    """
    folder = (cache or cache_folder() / "benchmarks") / name
    digest = hashlib.sha256("\n".join(texts[:4000]).encode()).hexdigest()[:16]
    wanted = {"config": SHAPES[name], "texts": digest if name == "tinyllama-shape" else None}
    ready = folder / "ready.json"
    if ready.is_file() and json.loads(ready.read_text(encoding="utf-8")) == wanted:
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Made beside its final place and renamed, so that a killed process leaves no half of a model there.
    with tempfile.TemporaryDirectory(prefix=".shape-", dir=folder.parent) as scratch:
        fresh = Path(scratch) / name
        torch.manual_seed(0)
        config = AutoConfig.for_model(**SHAPES[name])
        AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, trust_remote_code=False).save_pretrained(
            fresh, max_shard_size="400MB"
        )
        recipe = load_recipe(RECIPE)
        if name == "tinyllama-shape":
            save_llama_tokenizer(tokenizer_for(texts[:4000], recipe.task.instruction), fresh)
        else:
            load_tokenizer(find_model(recipe.backbone)).tokenizer.save_pretrained(fresh)
        (fresh / ready.name).write_text(json.dumps(wanted), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        fresh.replace(folder)
    return folder


def tokenizer_for(texts: Sequence[str], instruction: str) -> Any:
    """Return a tokenizer under which a text has about 30 tokens; it learns the instruction and the label words well."""
    lines = [f" {line}" for text in [*texts, *[instruction] * 50, *[WORDS] * 50] for line in text.split("\n")]
    for pieces in LEARNED_PIECES:
        tokenizer = train_llama_tokenizer(lines, pieces)
        encoded = tokenizer.encode_batch(list(texts[:500]), add_special_tokens=False)
        if sum(len(text.ids) for text in encoded) / len(encoded) <= TOKENS_A_TEXT:
            break
    return tokenizer
