"""Runs with a student, and the tables of texts that it learned from."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

from tests.helpers import finished_runs, tiny_models, tiny_questions
from tests.helpers.shared_folders import make_once
from whinchat.pipelines.distill_run import distill_run

# A rate that few held-out texts can show.
WANTED = {"agreement": 0.8, "delta": 0.1}
# With a clue of each label, and with none, the student leaves a text to the model.
UNSURE = ("rain tea sun", "??")


def write_texts(path: Path, rows: int = 300, seed: int = 3) -> Path:
    """Write a table of different texts without labels."""
    texts, _ = tiny_models.toy_rows(rows, tiny_models.ONE_TOKEN, seed)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text",), *((f"{text} {row}",) for row, text in enumerate(texts))])
    return path


def distilled_run(model: Path) -> Path:
    """Return a finished run with labels and a student; made once, to be read only."""

    def make(folder: Path) -> None:
        shutil.copytree(finished_runs.finished_run(model), folder / "run")
        distill_run(folder / "run", write_texts(folder / "more.csv"), **WANTED)

    return make_once(model.parent / f"{model.name}-distilled", make) / "run"


def distilled_questions(model: Path) -> Path:
    """Return a finished run with a question of each type and a student; made once, to be read only."""

    def make(folder: Path) -> None:
        shutil.copytree(tiny_questions.finished_run(model), folder / "run")
        # The first 90 rows are those of the run.
        table = tiny_questions.write_table(folder / "more.csv", 400)
        distill_run(folder / "run", table, agreement=0.5, delta=0.2)

    return make_once(model.parent / f"{model.name}-distilled-questions", make) / "run"
