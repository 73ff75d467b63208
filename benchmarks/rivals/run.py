"""Training and answering speed, memory, and quality of whinchat beside sysone and decisionformer.

    pip install --no-deps --target FOLDER sysone==0.5.2 decisionformer==0.2.0 omegaconf==2.4.0 \
        antlr4-python3-runtime==4.9.3 sentencepiece==0.2.3
    python -m benchmarks.rivals --rivals FOLDER

Each package trains the same model on the same rows with LoRA of the same rank on the same layers, calibrates on the
same rows, and answers the same rows, one package after the other, each in a process of its own. A package that is not
installed is left out. Learning rate, prompt, loss, head and data type are those of each package, for a user who changes
nothing.
"""

import argparse
import os
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import machine, provenance, versions
from benchmarks.measure import Contest, Entry, measure
from benchmarks.plan import RECIPE, read_workload
from benchmarks.rivals.contestants import ALPHA, RANK, deal
from benchmarks.tables import RIVALS, rivals_section, save
from whinchat.data.dataset import Split
from whinchat.evaluation.metrics import LabelScores, calibration_metrics, macro_f1_of_rows
from whinchat.models.backbone import find_model
from whinchat.recipe.loader import load_recipe

say = partial(print, flush=True)

INSTRUCTIONS = "What is the sentiment of this tweet?"
# name -> kind, title and own options
CONTESTANTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "whinchat": ("Whinchat", "whinchat", {}),
    "whinchat-float32": ("Whinchat", "whinchat, float32", {"load_in": "float32"}),
    "sysone": ("Sysone", "sysone", {}),
    "decisionformer": ("Decisionformer", "decisionformer", {}),
    # Not what a user gets on a CPU who changes nothing, so only where --only asks for them.
    "sysone-bf16": ("Sysone", "sysone, bf16", {"precision": "bf16"}),
    "decisionformer-bf16": ("Decisionformer", "decisionformer, bf16", {"precision": "bfloat16"}),
}
BY_DEFAULT = ("whinchat", "whinchat-float32", "sysone", "decisionformer")
CHECKPOINTING = {"own": None, "on": True, "off": False}


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rivals", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rivals", metavar="FOLDER", help="folder where the rivals are installed")
    parser.add_argument("--only", action="append", choices=CONTESTANTS, help="measure this one; may be repeated")
    parser.add_argument("--train", type=int, default=256, help="rows to train on (256)")
    parser.add_argument(
        "--held-out", type=int, default=64, help="rows to calibrate on (64); sysone does not calibrate below 50"
    )
    parser.add_argument("--evaluated", type=int, default=300, help="rows to answer (300)")
    parser.add_argument("--epochs", type=int, default=1, help="epochs (1)")
    parser.add_argument("--batch", type=int, default=16, help="rows of an optimizer step (16)")
    parser.add_argument("--learning-rate", type=float, help="of every adapter; by default each package's own")
    parser.add_argument(
        "--checkpointing", choices=CHECKPOINTING, default="own", help="of the rivals' activations, to save memory (own)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the rows and of training (0)")
    parser.add_argument("--threads", type=int, help="threads of each contestant; by default all cores")
    parser.add_argument("--data", metavar="FOLDER", help="TweetEval sentiment; by default as for python -m benchmarks")
    parser.add_argument("--model", default="package:smollm2-135m-instruct", help="the model")
    parser.add_argument("--out", type=Path, default=RIVALS, help="the JSON (benchmarks/results/rivals.json)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 1 if a contestant failed, 0 also where one is not installed."""
    options = parsed(arguments)
    os.environ.update({"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"})
    if options.threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(options.threads)
    started = time.perf_counter()
    split, workload = read_rows(options.train + options.held_out + options.evaluated, options.data)
    recipe = load_recipe(RECIPE, [f"backbone.model={options.model}"])
    result: dict[str, Any] = {
        "provenance": provenance("python -m benchmarks.rivals"),
        "machine": machine(),
        "versions": versions(),
        "settings": {
            **{name: getattr(options, name) for name in ("train", "held_out", "evaluated", "epochs", "batch", "seed")},
            "learning_rate": options.learning_rate,
            "checkpointing": options.checkpointing,
            "model": options.model,
            "rank": RANK,
            "alpha": ALPHA,
        },
        "workload": workload,
        "contestants": {},
    }
    shared = {
        **{name: getattr(options, name) for name in ("train", "held_out", "epochs", "batch", "seed", "learning_rate")},
        "model": find_model(recipe.backbone).path,
        "labels": list(recipe.task.labels),
        "instructions": INSTRUCTIONS,
        "checkpointing": CHECKPOINTING[options.checkpointing],
        "folder": str(Path(options.rivals).expanduser().resolve()) if options.rivals else None,
    }
    for name in options.only or BY_DEFAULT:
        kind, title, own = CONTESTANTS[name]
        contest = Contest(
            name, f"benchmarks.rivals.contestants:{kind}", title, {**shared, **own}, split, kind[0] == "W"
        )
        # One after the other: the memory and the threads of a contestant are given back before the next begins.
        entry = measure("rivals", [contest], 1, options.out.parent / "rivals-logs", say)[name]
        result["contestants"][name] = figures(entry, split, shared)
        result["seconds"] = time.perf_counter() - started
        save(result, options.out)
    say(rivals_section(result))
    return int(any(entry["error"] for entry in result["contestants"].values()))


def read_rows(rows: int, data: str | None) -> tuple[Split, dict[str, str]]:
    """Return the first rows with different texts, and what they are.

    Raises:
        SystemExit: the data has fewer different texts.
    """
    split, workload = read_workload(2 * rows, data)
    first = {text: row for row, text in reversed(list(enumerate(split.texts)))}
    chosen = sorted(first.values())[:rows]
    if len(chosen) < rows:
        raise SystemExit(f"{workload['source']}: {len(chosen)} different texts; lower --train or --evaluated")
    return split.take(chosen), workload


def figures(entry: Entry, split: Split, shared: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of a contestant: speed, memory, and quality on the evaluated rows."""
    found: dict[str, Any] = {
        "title": entry.contest.title,
        "error": entry.error,
        "unavailable": entry.unavailable,
        "settings": entry.facts,
        "peak_bytes": entry.peak_bytes,
    }
    if not entry.rounds:
        return found
    one, evaluated = entry.rounds[0], deal(split, shared["train"], shared["held_out"], shared["seed"]).evaluated
    facts = dict(one["facts"])
    probabilities, expected = np.array(facts.pop("probabilities")), np.array(evaluated.labels)
    # Rivals round to four digits.
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    predicted = probabilities.argmax(axis=1)
    calibration = calibration_metrics(LabelScores(np.log(probabilities.clip(1e-12)), probabilities), expected)
    return {
        **found,
        **facts,
        "train_examples_per_second": one["examples"] / one["seconds"],
        "answers_per_second": len(expected) / facts["answer_seconds"],
        "macro_f1": macro_f1_of_rows(expected, predicted, len(shared["labels"])),
        "accuracy": float((predicted == expected).mean()),
        "ece": calibration.ece,
        "log_loss": calibration.log_loss,
    }
