"""Who is measured with how many texts: the short version, and what the full one adds.

``seconds`` are what a round took on two cores (AMD EPYC with AVX512-BF16) when this was written; they only feed the
estimate that is printed first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.entries import Contest
from benchmarks.workload import RECIPE

KV = ("adapter.r=8", "adapter.lora_alpha=16", "adapter.target_modules=[k_proj, v_proj]")
ALL = ("adapter.r=16", "adapter.lora_alpha=32", "adapter.target_modules=all-linear")
DORA = ("adapter.method=dora",)
TRAIN = ("train.per_device_train_batch_size=16", "train.learning_rate=3e-4", "train.loss=completion")
BF16, FP32 = ("backbone.load_in=bfloat16",), ("backbone.load_in=float32",)
TINYLLAMA = "tinyllama-qlora"

GROUPS = ("training", "scoring", "tinyllama", "growth")
# Of the short version: rounds beyond the second only where they fit, so that slow machines end in time, too.
LIMIT_SECONDS = {"training": 480.0, "scoring": 210.0, "tinyllama": 150.0}


@dataclass(frozen=True)
class Sizes:
    """How much is measured; ``texts`` of a training round, ``scored`` of a scoring round."""

    rounds: int = 6
    texts: int = 64
    scored: int = 256
    full: bool = False

    def of_scored(self, share: float) -> int:
        """A share of the scored texts, for a slow peer."""
        return max(1, round(self.scored * share))

    def of_texts(self, share: float) -> int:
        """A share of the training texts in whole batches, for a slow peer."""
        return min(self.texts, max(16, 16 * round(self.texts * share / 16)))


def training(sizes: Sizes, workload: Path) -> list[Contest]:
    """Small-model training: whinchat, TRL, a classification head, and the machine's peak."""
    options = {"recipe": RECIPE, "workload": str(workload), "pool": sizes.texts, "texts": sizes.texts}

    def ours(name: str, title: str, overrides: Sequence[str], speed: float, count: bool = False) -> Contest:
        chosen = {**options, "overrides": [*TRAIN, *BF16, *overrides]}
        return Contest(name, "whinchat-train", title, chosen, sizes.texts / speed, ours=True, count_flops=count)

    def trl(name: str, title: str, overrides: Sequence[str], speed: float, **sft: Any) -> Contest:
        # One step in the short version: TRL's rate does not change over the steps, and it takes most of the time.
        texts = sizes.texts if sizes.full else sizes.of_texts(1 / 4)
        chosen = {**options, "texts": texts, "overrides": [*TRAIN, *overrides], "sft": sft}
        return Contest(name, "trl-train", title, chosen, texts / speed, preparing=16 + 16 / speed)

    def head(name: str, title: str, dtype: str) -> Contest:
        chosen = {**options, "overrides": [*TRAIN, *KV], "dtype": dtype}
        return Contest(name, "seqcls-train", title, chosen, sizes.texts / 18)

    contests = [
        ours("whinchat-lora-kv", "whinchat LoRA, k/v, bf16", KV, 25, count=True),
        ours("whinchat-lora-all", "whinchat LoRA, all linear, bf16", ALL, 20, count=True),
        ours("whinchat-dora-kv", "whinchat DoRA, k/v, bf16", (*KV, *DORA), 22),
        ours("whinchat-dora-all", "whinchat DoRA, all linear, bf16", (*ALL, *DORA), 16),
        trl("trl-fp32-kv", "TRL, k/v, float32", KV, 2.3, bf16=False),
        trl("trl-bf16-kv", "TRL, k/v, bf16", KV, 3.5, bf16=True),
        trl("trl-bf16-all", "TRL, all linear, bf16", ALL, 3.3, bf16=True),
        trl("trl-bf16-kv-stored", "TRL, k/v, bf16, no checkpointing", KV, 4.5, bf16=True, gradient_checkpointing=False),
        head("seqcls-bf16", "Classification head, k/v, bf16", "bfloat16"),
        peak("bfloat16"),
        peak("float32"),
    ]
    if sizes.full:
        contests += [
            trl("trl-bf16-dora-all", "TRL DoRA, all linear, bf16", (*ALL, *DORA), 2.8, bf16=True),
            trl(
                "trl-bf16-all-stored", "TRL, all linear, bf16, no checkpointing", ALL, 4, bf16=True,
                gradient_checkpointing=False,
            ),
            head("seqcls-bf16-fp32-weights", "Classification head, k/v, bf16 (float32 weights)", "float32"),
        ]  # fmt: skip
    return contests


def peak(dtype: str) -> Contest:
    """The machine's own limit in one data type."""
    return Contest(
        f"peak-{dtype}", "peak", f"Matrix products, {dtype}", {"dtype": dtype}, 5.0, preparing=5.0, unit="GFLOP"
    )


def scoring(sizes: Sizes, workload: Path) -> list[Contest]:
    """Small-model scoring: whinchat, free generation, a classification head, llama.cpp."""
    options = {"recipe": RECIPE, "workload": str(workload), "pool": sizes.scored}

    def contest(name: str, kind: str, title: str, speed: float, share: float = 1.0, **more: Any) -> Contest:
        texts = sizes.scored if sizes.full else sizes.of_scored(share)
        chosen = {**options, "texts": texts, **more}
        return Contest(name, kind, title, chosen, texts / speed, ours=kind == "whinchat-score")

    ours = [*ALL, "evaluate.per_device_eval_batch_size=64"]
    return [
        contest("whinchat-bf16", "whinchat-score", "whinchat, bf16", 50, overrides=[*ours, *BF16]),
        contest("whinchat-fp32", "whinchat-score", "whinchat, float32", 20, 1 / 2, overrides=[*ours, *FP32]),
        contest("generate-fp32", "generate", "generate, 16 tokens, float32", 5.7, 3 / 8, dtype="float32"),
        contest("generate-bf16", "generate", "generate, 16 tokens, bf16", 17.8, 1 / 2, dtype="bfloat16"),
        contest("generate-bf16-2", "generate", "generate, 2 tokens, bf16", 30, 1 / 2, dtype="bfloat16", new_tokens=2),
        contest("seqcls-bf16", "seqcls-score", "Classification head, bf16", 50, dtype="bfloat16"),
        contest("llama-cpp", "llama-cpp", "llama.cpp with a grammar, Q4_1", 15, 1 / 2),
    ]


def tinyllama(sizes: Sizes, workload: Path, model: Path) -> list[Contest]:
    """One optimizer step of TinyLlama's shape a round, with the shipped recipe's own adapter and batch."""
    shared = [f"backbone.model={model}", "backbone.compute_dtype=auto", "train.num_train_epochs=1"]
    options = {"recipe": TINYLLAMA, "workload": str(workload), "pool": 32, "texts": 32, "warm_up": 8}
    contests = [
        Contest(
            f"tinyllama-{load_in}",
            "whinchat-train",
            f"whinchat, {title}",
            {**options, "overrides": [*shared, f"backbone.load_in={load_in}"]},
            15.0,
            preparing=40.0,
            ours=True,
        )
        for load_in, title in (("nf4", "NF4"), ("bfloat16", "bf16"))
    ]
    if sizes.full:
        contests.append(
            Contest(
                "tinyllama-trl-nf4",
                "trl-train",
                "TRL + bitsandbytes, NF4",
                {**options, "overrides": shared, "nf4": True, "sft": {"bf16": True}},
                120.0,
                preparing=120.0,
            )
        )
    return contests


def estimate_seconds(contests: Sequence[Contest], rounds: int) -> float:
    """How long a group is expected to take."""
    counting = sum(2 * contest.seconds for contest in contests if contest.count_flops)
    return sum(contest.preparing + rounds * contest.seconds for contest in contests) + counting
