"""Training and scoring speed of each packed family against Llama, at the size of SmolLM2-135M.

    python -m benchmarks.families
    python -m benchmarks.families --only qwen3 --rounds 9 --threads 1

A family's model and Llama's have random weights, the same width, depth, heads and vocabulary, and the same adapter on
all linear layers. Their rounds alternate, and a ratio compares two rounds that follow each other, so that whatever
slows the machine slows both. Processor time counts the time of this process alone and does not depend on other
programs as much as wall-clock time does.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from benchmarks.machine import machine, provenance, versions
from benchmarks.measure import Measured, create, spread
from benchmarks.plan import ALL, RECIPE, TRAIN, read_workload
from benchmarks.tables import FAMILIES, families_section, save
from whinchat.data.dataset import Split
from whinchat.evaluation.scoring import score_prompts
from whinchat.models.backbone import find_model, load_tokenizer
from whinchat.models.packed.packed_forward import is_packable
from whinchat.recipe.loader import load_recipe

say = partial(print, flush=True)

SCORED_AT_ONCE = 64
# SmolLM2-135M's.
SIZE = {
    "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
    "num_attention_heads": 9, "num_key_value_heads": 3, "head_dim": 64, "max_position_embeddings": 8192,
    "tie_word_embeddings": True, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2,
}  # fmt: skip
# What a family's published models set besides their size, where that is not transformers' default.
_GRANITE = {
    "embedding_multiplier": 12.0, "attention_multiplier": 0.015625, "residual_multiplier": 0.22, "logits_scaling": 8.0
}  # fmt: skip
_PHI_4_MINI = {
    "max_position_embeddings": 131072, "original_max_position_embeddings": 4096, "sliding_window": 262144,
    "rope_parameters": {
        "rope_type": "longrope", "rope_theta": 10000.0, "partial_rotary_factor": 0.75,
        "short_factor": [1.0] * 24, "long_factor": [2.0] * 24, "original_max_position_embeddings": 4096,
    },
}  # fmt: skip
_GRANITE_4 = {
    **_GRANITE, "layer_types": ["full_attention"] * 30, "num_local_experts": 0, "shared_intermediate_size": 1536,
    "position_embedding_type": "rope", "mamba_n_heads": 9,
}  # fmt: skip
SETTINGS: dict[str, dict[str, Any]] = {
    "llama": {},
    "gemma": {},
    "gemma2": {"query_pre_attn_scalar": 64},
    "gemma3_text": {"query_pre_attn_scalar": 64, "sliding_window": 512},
    "granite": _GRANITE,
    "granitemoehybrid": _GRANITE_4,
    "ministral": {},
    "mistral": {"sliding_window": None},
    "olmo2": {},
    "olmo3": {},
    "phi3": _PHI_4_MINI,
    "qwen2": {},
    "qwen3": {},
    "smollm3": {},
}


FAMILY_NAMES = tuple(name for name in SETTINGS if name != "llama")


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.families", description=__doc__.partition("\n")[0])
    parser.add_argument("--only", action="append", choices=FAMILY_NAMES, help="measure this family; may be repeated")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each model (7)")
    parser.add_argument("--texts", type=int, default=32, help="texts in a training round (32)")
    parser.add_argument("--scored", type=int, default=128, help="texts in a scoring round (128)")
    parser.add_argument("--threads", type=int, help="threads; all cores by default")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override the recipe")
    parser.add_argument("--data", help="a TweetEval sentiment folder; else $WHINCHAT_TWEETEVAL, ../shared, VADER")
    parser.add_argument("--out", type=Path, default=FAMILIES, help="the JSON file to write")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options = parsed(arguments)
    os.environ.update({"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"})
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    started = time.perf_counter()
    split, workload = read_workload(max(options.texts, options.scored), options.data)
    result = {
        "provenance": provenance("python -m benchmarks.families"),
        "machine": {**machine(), "threads": torch.get_num_threads()},
        "versions": versions(),
        "settings": {"rounds": options.rounds, "texts": options.texts, "scored": options.scored},
        "workload": workload,
        "families": {},
    }
    with tempfile.TemporaryDirectory() as scratch:
        llama = Rival("llama", Path(scratch), split, options)
        for name in options.only or FAMILY_NAMES:
            rival = Rival(name, Path(scratch), split, options)
            result["families"][name] = compare(llama, rival, options.rounds)
            result["seconds"] = time.perf_counter() - started
            save(result, options.out)
    say(families_section(result))
    return 0


class Rival:
    """A family's model with an adapter, and its rounds of training and of scoring."""

    def __init__(self, name: str, scratch: Path, split: Split, options: argparse.Namespace) -> None:
        self.name = name
        folder = save_model(name, scratch / name)
        overrides = [*TRAIN, *ALL, f"backbone.model={folder}", *options.set]
        self._training = create("whinchat-train", {"recipe": RECIPE, "overrides": overrides}, split.head(options.texts))
        self._training.load()
        self._prompts = self._training.template.encode(split.head(options.scored).texts)
        engine = self._training.engine
        self.facts = {**self._training.facts, "packed": is_packable(engine.model, engine.plan)}
        self._training.run(warm_up=True)
        self.score()

    def train(self) -> Measured:
        """Train on all texts once."""
        measured: Measured = self._training.run()
        return measured

    def score(self) -> Measured:
        """Score all prompts, whose tokenizing is not timed."""
        started, cpu_started = time.perf_counter(), time.process_time()
        score_prompts(self._training.engine, self._prompts, SCORED_AT_ONCE)
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
        return Measured(len(self._prompts), seconds, {}, cpu_seconds)


def compare(llama: Rival, rival: Rival, rounds: int) -> dict[str, Any]:
    """Alternate rounds of Llama and a family, and return the family's rounds and ratios.

    A ratio of rates above 1 says that the family is faster than Llama.
    """
    entry: dict[str, Any] = {"facts": rival.facts}
    for job in ("train", "score"):
        rounds_of: dict[str, list[Measured]] = {"llama": [], "family": []}
        for number in range(rounds):
            # Who goes first changes, so that neither gains from a machine that grows slower or faster.
            order = [("llama", llama), ("family", rival)]
            for key, model in order if number % 2 == 0 else reversed(order):
                rounds_of[key].append(getattr(model, job)())
        entry[job] = ratios(rounds_of["llama"], rounds_of["family"])
        wall, cpu = entry[job]["wall_ratio"]["median"], entry[job]["cpu_ratio"]["median"]
        say(f"[{rival.name}] {job}: {wall:.2f} of Llama's speed, {cpu:.2f} by processor time")
    return entry


def ratios(llama: Sequence[Measured], family: Sequence[Measured]) -> dict[str, Any]:
    """Return rates, and a family's speed divided by Llama's in each round, by wall-clock and by processor time."""
    return {
        "per_second": spread([one.examples / one.seconds for one in family]),
        "llama_per_second": spread([one.examples / one.seconds for one in llama]),
        "wall_ratio": spread([one.seconds / other.seconds for one, other in zip(llama, family, strict=True)]),
        "cpu_ratio": spread([one.cpu_seconds / other.cpu_seconds for one, other in zip(llama, family, strict=True)]),
        "cpu_seconds_per_example": statistics.median(one.cpu_seconds / one.examples for one in family),
    }


def save_model(name: str, folder: Path) -> Path:
    """Save a random model of a family, with SmolLM2's tokenizer, and return its folder."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(name, **{**SIZE, **SETTINGS[name]})
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, trust_remote_code=False).save_pretrained(folder)
    load_tokenizer(find_model(load_recipe(RECIPE).backbone)).tokenizer.save_pretrained(folder)
    return folder


if __name__ == "__main__":
    raise SystemExit(main())
