"""The contestants of each group, in the short version and in the full one; and their texts.

The driver reads the texts, since the 45,000 tweets of the data set would count as a contestant's memory.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measure import Contest
from whinchat.data.dataset import Split
from whinchat.data.sources import load_corpus
from whinchat.recipe.loader import load_recipe

RECIPE = "smollm2-lora-tweeteval"
DEFAULT_DATA = Path("../shared/data/tweeteval/sentiment")
KV = ("adapter.r=8", "adapter.lora_alpha=16", "adapter.target_modules=[k_proj, v_proj]")
ALL = ("adapter.r=16", "adapter.lora_alpha=32", "adapter.target_modules=all-linear")
DORA = ("adapter.method=dora",)
TRAIN = ("train.per_device_train_batch_size=16", "train.learning_rate=3e-4", "train.loss=completion")
# The recipe chosen for quality, and the settings that train it sooner; see benchmarks/cost.py.
BEST = "smollm2-best-tweeteval"
SHALLOW = ("backbone.layers=16",)
UPPER = (*SHALLOW, "adapter.layers_to_transform=[8,9,10,11,12,13,14,15]", "train.learning_rate=8e-4")
BF16, FP32 = ("backbone.load_in=bfloat16",), ("backbone.load_in=float32",)
TINYLLAMA = "tinyllama-qlora-as-published"
# What the benchmarks change in that recipe: every contestant is trained on answers alone.
ONE_EPOCH = ("backbone.compute_dtype=auto", "train.loss=completion", "train.num_train_epochs=1")

GROUPS = ("training", "scoring", "tinyllama", "growth")
# In the short version, rounds beyond the second are run only within this time, so that slow machines finish, too.
LIMIT_SECONDS = {"training": 480.0, "scoring": 210.0, "tinyllama": 150.0}


@dataclass(frozen=True)
class Sizes:
    """How much is measured: rounds, texts of a training round, texts of a scoring round."""

    rounds: int = 6
    texts: int = 64
    scored: int = 256
    full: bool = False


def contest(
    name: str, kind: str, title: str, split: Split, *, recipe: str = RECIPE, count_flops: bool = False, **options: Any
) -> Contest:
    """Return a contestant with a recipe; ``options`` are its other options, ``overrides`` of the recipe among them."""
    ours, chosen = kind.startswith("whinchat-"), {"recipe": recipe, **options}
    return Contest(name, kind, title, chosen, split, ours=ours, count_flops=count_flops)


def training(sizes: Sizes, split: Split) -> list[Contest]:
    """Return the contestants that train SmolLM2-135M: whinchat, TRL, a classification head; and the machine's peak."""
    whole_batches = split.head(2 * 64)
    split = split.head(sizes.texts)
    # TRL gets a quarter of the texts in whole batches: its rate does not change over the steps, and it is the slowest.
    few = evenly(split, sizes.texts if sizes.full else min(sizes.texts, max(16, 16 * round(sizes.texts / 64))))
    stored = {"bf16": True, "gradient_checkpointing": False}

    def train(name: str, kind: str, title: str, *overrides: str, **options: Any) -> Contest:
        texts = few if kind == "trl-train" else split
        return contest(name, kind, title, texts, overrides=[*TRAIN, *overrides], **options)

    def best(name: str, title: str, *overrides: str) -> Contest:
        return contest(name, "whinchat-train", title, whole_batches, recipe=BEST, overrides=overrides)

    contests = [
        train("whinchat-lora-kv", "whinchat-train", "whinchat LoRA, k/v, bf16", *BF16, *KV, count_flops=True),
        train("whinchat-lora-all", "whinchat-train", "whinchat LoRA, all linear, bf16", *BF16, *ALL, count_flops=True),
        train("whinchat-dora-kv", "whinchat-train", "whinchat DoRA, k/v, bf16", *BF16, *KV, *DORA),
        train("whinchat-dora-all", "whinchat-train", "whinchat DoRA, all linear, bf16", *BF16, *ALL, *DORA),
        best("whinchat-full", "whinchat, all 30 layers, batches of 64"),
        best("whinchat-layers-16", "whinchat, the first 16 layers, batches of 64", *SHALLOW),
        best("whinchat-upper-8", "whinchat, adapters in the upper 8 of 16, batches of 64", *UPPER),
        train("trl-fp32-kv", "trl-train", "TRL, k/v, float32", *KV, sft={"bf16": False}),
        train("trl-bf16-kv", "trl-train", "TRL, k/v, bf16", *KV, sft={"bf16": True}),
        train("trl-bf16-all", "trl-train", "TRL, all linear, bf16", *ALL, sft={"bf16": True}),
        train("trl-bf16-kv-stored", "trl-train", "TRL, k/v, bf16, no checkpointing", *KV, sft=stored),
        train("seqcls-bf16", "seqcls-train", "Classification head, k/v, bf16", *KV, dtype="bfloat16"),
        Contest("peak-bfloat16", "peak", "Matrix products, bfloat16", {"dtype": "bfloat16"}, unit="GFLOP"),
        Contest("peak-float32", "peak", "Matrix products, float32", {"dtype": "float32"}, unit="GFLOP"),
    ]
    if sizes.full:
        head = "Classification head, k/v, bf16 (float32 weights)"
        contests += [
            train("trl-bf16-dora-all", "trl-train", "TRL DoRA, all linear, bf16", *ALL, *DORA, sft={"bf16": True}),
            train("trl-bf16-all-stored", "trl-train", "TRL, all linear, bf16, no checkpointing", *ALL, sft=stored),
            train("seqcls-bf16-fp32-weights", "seqcls-train", head, *KV, dtype="float32"),
        ]
    return contests


def scoring(sizes: Sizes, split: Split) -> list[Contest]:
    """Return the contestants that answer: whinchat, free generation, a head, llama.cpp; and MiniLM."""
    split = split.head(sizes.scored)
    ours = [*ALL, "evaluate.per_device_eval_batch_size=64"]
    merged: dict[str, Any] = {"overrides": [*ours, *BF16], "merged": True}
    merged_shallow = {**merged, "overrides": [*ours, *BF16, *SHALLOW]}

    def some(share: float) -> Split:
        """Return the texts of a slow contestant, which gets a share of all in the short version."""
        return split if sizes.full else evenly(split, max(1, round(sizes.scored * share)))

    return [
        contest("whinchat-bf16", "whinchat-score", "whinchat, bf16", split, overrides=[*ours, *BF16]),
        contest("whinchat-merged", "whinchat-score", "whinchat, 30 layers, merged weights", split, **merged),
        contest("whinchat-layers-16", "whinchat-score", "whinchat, 16 layers, merged weights", split, **merged_shallow),
        contest("minilm", "minilm", "MiniLM and logistic regression, float32", split),
        contest("whinchat-fp32", "whinchat-score", "whinchat, float32", some(1 / 2), overrides=[*ours, *FP32]),
        contest("generate-fp32", "generate", "generate, 16 tokens, float32", some(3 / 8), dtype="float32"),
        contest("generate-bf16", "generate", "generate, 16 tokens, bf16", some(1 / 2), dtype="bfloat16"),
        contest("generate-bf16-2", "generate", "generate, 2 tokens, bf16", some(1 / 2), dtype="bfloat16", new_tokens=2),
        contest("seqcls-bf16", "seqcls-score", "Classification head, bf16", split, dtype="bfloat16"),
        contest("llama-cpp", "llama-cpp", "llama.cpp with a grammar, Q4_1", some(1 / 2)),
    ]


def tinyllama(sizes: Sizes, split: Split, model: Path) -> list[Contest]:
    """Return the contestants that train TinyLlama's shape: one optimizer step a round, as the shipped recipe does."""
    shared = [f"backbone.model={model}", *ONE_EPOCH]

    def train(name: str, kind: str, title: str, *overrides: str, **options: Any) -> Contest:
        chosen = [*shared, *overrides]
        return contest(name, kind, title, split.head(32), recipe=TINYLLAMA, warm_up=8, overrides=chosen, **options)

    contests = [
        train("tinyllama-nf4", "whinchat-train", "whinchat, NF4", "backbone.load_in=nf4"),
        train("tinyllama-bfloat16", "whinchat-train", "whinchat, bf16", *BF16),
    ]
    if sizes.full:
        trl = {"nf4": True, "sft": {"bf16": True}}
        contests.append(train("tinyllama-trl-nf4", "trl-train", "TRL + bitsandbytes, NF4", **trl))
    return contests


def read_workload(rows: int, data: str | None = None) -> tuple[Split, dict[str, str]]:
    """Return the first training tweets of TweetEval sentiment, or VADER's where its folder is missing.

    The texts are returned with their source and a description.

    Args:
        rows: number of rows; a source with fewer rows is repeated.
        data: the folder; by default ``$WHINCHAT_TWEETEVAL``, then ``../shared/data/tweeteval/sentiment``.

    Raises:
        DataError: a folder was named and cannot be read.
    """
    named = data or os.environ.get("WHINCHAT_TWEETEVAL")
    folder = Path(named).expanduser() if named else DEFAULT_DATA
    if named or folder.is_dir():
        corpus = load_corpus(load_recipe(RECIPE, [f"data.source={folder}", "data.config=null"]))
        description = "TweetEval sentiment, first training tweets"
    else:
        corpus = load_corpus(load_recipe("demo", ["data.train_rows=null"]))
        description = "VADER's rated tweets, first training tweets of the recipe demo"
    train = corpus.train
    if rows > len(train):
        description += f" ({len(train)} of them, repeated)"
    chosen = train.take([row % len(train) for row in range(rows)])
    return chosen, {"source": str(corpus.source), "description": description}


def evenly(split: Split, rows: int) -> Split:
    """Return ``rows`` rows drawn evenly over the order of text length, whose mean length is about that of all rows."""
    if rows >= len(split):
        return split
    by_length = sorted(range(len(split)), key=lambda row: (len(split.texts[row]), row))
    return split.take(sorted(by_length[int((index + 0.5) * len(split) / rows)] for index in range(rows)))


def cut_to_tokens(split: Split, tokens: int, tokenizer: Any) -> Split:
    """Return each text joined with the following texts until it is long enough, and cut to ``tokens`` tokens.

    The cut falls between two tokens of the joined text, so a text may come out a token or two longer where its end is
    tokenized differently alone.
    """
    count = len(split)
    texts = []
    for row in range(count):
        joined, offsets = "", []
        for step in range(row, row + 1 + tokens):
            joined = f"{joined} {split.texts[step % count]}".strip()
            offsets = tokenizer(joined, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
            if len(offsets) >= tokens:
                break
        texts.append(joined[: offsets[tokens - 1][1]] if len(offsets) >= tokens else joined)
    return Split(split.name, tuple(texts), split.labels)
