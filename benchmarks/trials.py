"""Trials, by which the settings of the shipped recipes were chosen.

    python -m benchmarks.trials NAME --set data.source=FOLDER --set train.learning_rate=1e-3
    python -m benchmarks.trials --table

A trial is a training run on the first ``data.train_rows`` rows of train, evaluated on the last 5,000 rows of train and
on validation; test is never used. ``benchmarks/results/trials.jsonl`` gets a line for each trial, ``runs/trials`` its
run.
"""

import argparse
import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score, recall_score

from benchmarks.markdown import markdown_table
from whinchat.data.dataset import Split
from whinchat.data.sources import load_corpus
from whinchat.evaluation.calibrator import scale_log_probs
from whinchat.evaluation.scoring import score_prompts
from whinchat.inference.predictor import load_engine
from whinchat.pipelines.run import train_run
from whinchat.recipe.loader import load_recipe

RESULTS = Path(__file__).parent / "results" / "trials.jsonl"
HELD_OUT_ROWS = 5000
# Powers of the label shares by which scores are divided before the best is chosen; 0 takes the scores as they are.
TAUS = (0.0, 0.25, 0.5, 0.75, 1.0)


def trial(name: str, base: str, overrides: list[str]) -> dict[str, Any]:
    """Train a model, evaluate it, and return the figures."""
    recipe = load_recipe(base, overrides)
    corpus = load_corpus(load_recipe(base, [*overrides, "data.train_rows=null"]))
    rows, most = recipe.data.train_rows, len(corpus.train) - HELD_OUT_ROWS
    if rows is None or rows > most:
        raise SystemExit(f"data.train_rows: set it to {most} or fewer")
    out, started = Path("runs/trials") / name, time.perf_counter()
    train_run(recipe, out, "resume" if out.exists() else "refuse")
    seconds = round(time.perf_counter() - started)
    _, engine = load_engine(out)
    result = {"name": name, "base": base, "overrides": overrides, "train_rows": rows, "train_seconds": seconds}
    held_out = corpus.train.take(list(range(most, len(corpus.train))))
    for part, split in {"validation": corpus.split("validation"), "held_out": held_out}.items():
        prompts = engine.template.encode(split.texts)
        log_probs = score_prompts(engine, prompts, recipe.evaluate.per_device_eval_batch_size)
        np.save(out / f"{part}.npy", log_probs)
        result[part] = figures(log_probs, split)
    return result


def figures(log_probs: NDArray[np.floating[Any]], split: Split) -> dict[str, Any]:
    """Return log-loss, accuracy, and macro-F1 and macro-recall for each power of the split's label shares."""
    truth = np.array(split.labels)
    scores = scale_log_probs(log_probs, 1.0, ())
    shares = np.bincount(truth, minlength=scores.shape[1]) / len(truth)
    answers = {tau: (scores - tau * np.log(shares)).argmax(axis=1) for tau in TAUS}
    measures = {"macro_f1": partial(f1_score, average="macro"), "macro_recall": partial(recall_score, average="macro")}
    return {
        "log_loss": float(-scores[np.arange(len(truth)), truth].mean()),
        "accuracy": float(accuracy_score(truth, answers[0.0])),
        **{name: {str(tau): float(of(truth, answers[tau])) for tau in TAUS} for name, of in measures.items()},
    }


def table() -> str:
    """Return all trials as Markdown, oldest first; macro-recall is that of scores divided by the label shares."""
    rows, usual = [], ("data.source=", "data.train_rows=", "train.save_")
    for line in RESULTS.read_text(encoding="utf-8").splitlines():
        result = json.loads(line)
        changed = [f"`{override}`" for override in result["overrides"] if not override.startswith(usual)]
        row = [result["name"], ", ".join(changed) or "-", f"{result['train_rows']:,}"]
        for part in (result["validation"], result["held_out"]):
            row += [f"{part['log_loss']:.4f}", f"{part['macro_f1']['0.0']:.3f}", f"{part['macro_recall']['1.0']:.3f}"]
        rows.append(row)
    columns = ("log-loss", "macro-F1", "macro-recall")
    return markdown_table(("trial", "changed", "rows", *columns, f"held out: {columns[0]}", *columns[1:]), rows)


def main() -> None:
    """Run a trial, or print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.trials", description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="?", help="name of the trial")
    parser.add_argument("--base", default="smollm2-lora-tweeteval", help="recipe that the trial starts from")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE")
    parser.add_argument("--table", action="store_true", help="print all trials as Markdown")
    options = parser.parse_args()
    if options.name:
        result = trial(options.name, options.base, options.overrides)
        with RESULTS.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(result) + "\n")
    if options.table or not options.name:
        print(table(), end="")


if __name__ == "__main__":
    main()
