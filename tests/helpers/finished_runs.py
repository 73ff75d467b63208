"""Small corpora, recipes for them, and runs that several tests look at without changing them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from tests.helpers import tiny_models
from tests.helpers.shared_folders import make_once
from whinchat.pipelines.run import run
from whinchat.recipe.schema import Recipe

SENTIMENT = ("negative", "neutral", "positive")

# Enough to go through every stage, little enough to take seconds.
TRAIN = {"max_steps": 8, "per_device_train_batch_size": 4, "eval_steps": 4, "logging_steps": 2, "save_steps": 4}
EVALUATE = {"max_new_tokens": 4, "bootstrap_resamples": 100, "per_device_eval_batch_size": 8}


def write_csv(path: Path, rows: int = 80, labels: tuple[str, ...] = tiny_models.ONE_TOKEN, seed: int = 0) -> Path:
    """A CSV of ``rows`` texts with the columns text and label."""
    texts, targets = tiny_models.toy_rows(rows, labels, seed)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label"))
        writer.writerows((text, labels[target]) for text, target in zip(texts, targets, strict=True))
    return path


def write_tweeteval(folder: Path, rows: int = 60) -> Path:
    """A folder as TweetEval's sentiment task is published: ids, names in mapping.txt, three splits."""
    folder.mkdir()
    (folder / "mapping.txt").write_text("0\tnegative\n1\tneutral\n2\tpositive\n", encoding="utf-8")
    for seed, split in enumerate(("train", "val", "test")):
        texts, targets = tiny_models.toy_rows(rows, SENTIMENT, seed)
        # Said by another user in each split, so that none leaks into the next.
        lines = [f"@user{seed} {text}" for text in texts]
        (folder / f"{split}_text.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (folder / f"{split}_labels.txt").write_text("".join(f"{target}\n" for target in targets), encoding="utf-8")
    return folder


def recipe_for(model: Path, source: Path, **sections: Any) -> Recipe:
    """A recipe that runs in seconds; ``sections`` add to or replace the small settings."""
    small = {
        "data": {"validation_rows": 24, **sections.pop("data", {})},
        "train": TRAIN | sections.pop("train", {}),
        "evaluate": EVALUATE | sections.pop("evaluate", {}),
    }
    return tiny_models.tiny_recipe(model, source=source, **small, **sections)


def finished_run(model: Path) -> Path:
    """A finished run of ``model``, its corpus beside it; made once, to be read only."""

    def make(folder: Path) -> None:
        folder.mkdir()
        source = write_csv(folder / "texts.csv")
        # Long enough that free answers begin to be labels, some of them wrong.
        steps = {"max_steps": 60, "eval_steps": 30, "save_steps": 30, "learning_rate": 1e-2}
        run(recipe_for(model, source, adapter={"lora_dropout": 0.1}, train=steps), folder / "run")

    return make_once(model.parent / f"{model.name}-work", make) / "run"


def timeless(evaluation: dict[str, Any]) -> dict[str, Any]:
    """An evaluation without how long it took."""
    return {key: timeless(value) if isinstance(value, dict) else value for key, value in evaluation.items()} | (
        {"seconds": None} if "seconds" in evaluation else {}
    )
