"""What the shipped settings were chosen by: trials, measured on validation and on rows of train that no trial uses.

    python -m benchmarks.trials NAME --set data.source=FOLDER --set train.learning_rate=1e-3
    python -m benchmarks.trials --table

A trial is one training run on the first ``data.train_rows`` rows of train, measured on the 5,000 last ones and on
validation; test is never looked at. ``benchmarks/results/trials.jsonl`` gets a line for each, ``runs/trials`` its run.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score, recall_score

from whinchat.data.dataset import Split
from whinchat.data.sources import load_corpus
from whinchat.evaluation.calibration import decide, scale_log_probs
from whinchat.evaluation.scoring import score_prompts
from whinchat.inference.predictor import load_engine
from whinchat.pipelines.run import train_run
from whinchat.recipe.loader import load_recipe

RESULTS = Path(__file__).parent / "results" / "trials.jsonl"
HELD_OUT_ROWS = 5000
# Powers of the label shares that scores are divided by before the best is taken; 0 takes the scores as they are.
TAUS = (0.0, 0.25, 0.5, 0.75, 1.0)


def trial(name: str, base: str, overrides: list[str]) -> dict[str, Any]:
    """Train, measure, and say what was found."""
    recipe = load_recipe(base, overrides)
    everything = load_corpus(load_recipe(base, [*overrides, "data.train_rows=null"]))
    rows = recipe.data.train_rows
    if rows is None or rows > len(everything.train) - HELD_OUT_ROWS:
        raise SystemExit(f"data.train_rows: set it to {len(everything.train) - HELD_OUT_ROWS} or fewer")
    out = Path("runs/trials") / name
    started = time.perf_counter()
    train_run(recipe, out, "resume" if out.exists() else "refuse")
    seconds = time.perf_counter() - started
    _, engine = load_engine(out)
    last = list(range(len(everything.train) - HELD_OUT_ROWS, len(everything.train)))
    held_out = everything.train.take(last)
    found = {"name": name, "base": base, "overrides": overrides, "train_rows": rows, "train_seconds": round(seconds)}
    for part, split in {"validation": everything.split("validation"), "held_out": held_out}.items():
        log_probs = score_prompts(
            engine, engine.template.encode(split.texts), recipe.evaluate.per_device_eval_batch_size
        )
        np.save(out / f"{part}.npy", log_probs)
        found[part] = figures(log_probs, split)
    return found


def figures(log_probs: NDArray[np.floating[Any]], split: Split) -> dict[str, Any]:
    """Log-loss, accuracy, and macro-F1 and macro-recall for each power of the split's label shares."""
    truth = np.array(split.labels)
    scores = scale_log_probs(log_probs, 1.0, ())
    shares = np.bincount(truth, minlength=scores.shape[1]) / len(truth)
    answers = {tau: decide(scores, shares, tau) for tau in TAUS}
    return {
        "log_loss": float(-scores[np.arange(len(truth)), truth].mean()),
        "accuracy": float(accuracy_score(truth, answers[0.0])),
        "macro_f1": {str(tau): float(f1_score(truth, found, average="macro")) for tau, found in answers.items()},
        "macro_recall": {
            str(tau): float(recall_score(truth, found, average="macro")) for tau, found in answers.items()
        },
    }


def table() -> str:
    """All trials as Markdown, in the order they were run in; macro-recall is that of scores over label shares."""
    columns = (
        "trial | changed | rows | log-loss | macro-F1 | macro-recall | held out: log-loss | macro-F1 | macro-recall"
    )
    lines = [f"| {columns} |", "|---|---|---|---|---|---|---|---|---|"]
    for line in RESULTS.read_text(encoding="utf-8").splitlines():
        one = json.loads(line)
        changed = [o for o in one["overrides"] if not o.startswith(("data.source=", "data.train_rows=", "train.save_"))]
        inner, outer = one["validation"], one["held_out"]
        cells = [
            one["name"],
            ", ".join(f"`{o}`" for o in changed) or "-",
            f"{one['train_rows']:,}",
            f"{inner['log_loss']:.4f}",
            f"{inner['macro_f1']['0.0']:.3f}",
            f"{inner['macro_recall']['1.0']:.3f}",
            f"{outer['log_loss']:.4f}",
            f"{outer['macro_f1']['0.0']:.3f}",
            f"{outer['macro_recall']['1.0']:.3f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Run one trial, or print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.trials", description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="?", help="name of the trial")
    parser.add_argument("--base", default="smollm2-lora-tweeteval", help="recipe that the trial departs from")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE")
    parser.add_argument("--table", action="store_true", help="print what there is as Markdown")
    given = parser.parse_args()
    if given.name:
        found = trial(given.name, given.base, given.overrides)
        with RESULTS.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(found) + "\n")
    if given.table or not given.name:
        print(table())


if __name__ == "__main__":
    main()
