"""A command that is killed at a system call, or meets a full disk there, ends with the same bytes when repeated."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.helpers import finished_runs, tiny_questions
from tests.helpers.crash_lab import CrashLab, check_crashes
from whinchat.recipe.loader import recipe_to_yaml

Arguments = Sequence[str | Path]
Prepare = Callable[[Path, Path], Arguments]

# Steps that are logged, saved and evaluated at different times.
STEPS = {"max_steps": 6, "save_steps": 2, "logging_steps": 4, "eval_steps": None, "learning_rate": 1e-2}
# What says when, how long or in how many pieces the run was made.
UNLIKE = ("manifest.json", "README.md", "report.html")
# So low an agreement that a few validation rows can show it.
FEW_TEXTS = ("--agreement", "0.3", "--delta", "0.3")


def recipe_in(work: Path, model: Path) -> Path:
    source = finished_runs.write_csv(work / "texts.csv", rows=40)
    evaluate = {"generate": False, "stress_rows": 4, "bootstrap_resamples": 100}
    recipe = finished_runs.recipe_for(
        model, source, adapter={"lora_dropout": 0.2}, train=STEPS, evaluate=evaluate, data={"validation_rows": 12}
    )
    path = work / "recipe.yaml"
    path.write_text(recipe_to_yaml(recipe), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def work(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory, crash_lab: CrashLab) -> Path:
    """Recipes, and finished runs; all are only read."""
    work = tmp_path_factory.mktemp("crashes")
    recipe_in(work, tiny_llama)
    questions = tiny_questions.table_recipe(tiny_llama, tiny_questions.write_table(work / "table.csv", 60))
    (work / "questions.yaml").write_text(recipe_to_yaml(questions), encoding="utf-8")
    made = crash_lab.run("run", work / "recipe.yaml", "--out", work / "run", folder=work)
    assert made.code == 0, made.output
    shutil.copytree(tiny_questions.finished_run(tiny_llama), work / "questions-run")
    shutil.copytree(work / "run", work / "student-run")
    made = crash_lab.run("distill", work / "student-run", *FEW_TEXTS, folder=work)
    assert made.code == 0, made.output
    return work


def new_run(work: Path, out: Path) -> Arguments:
    return ("run", work / "recipe.yaml", "--out", out / "run", "--resume")


def new_questions_run(work: Path, out: Path) -> Arguments:
    return ("run", work / "questions.yaml", "--out", out / "run", "--resume")


def overwritten_run(work: Path, out: Path) -> Arguments:
    shutil.copytree(work / "run", out / "run")
    (out / "run" / "export").mkdir()
    (out / "run" / "export" / "mine.txt").write_text("the user's own", encoding="utf-8")
    return ("run", work / "recipe.yaml", "--out", out / "run", "--overwrite", "--set", "train.max_steps=2")


def training(work: Path, out: Path) -> Arguments:
    return ("train", work / "recipe.yaml", "--out", out / "run", "--resume")


def calibration(work: Path, out: Path) -> Arguments:
    shutil.copytree(work / "run", out / "run")
    return ("calibrate", out / "run", "--metric", "macro_recall", "--wanted-accuracy", "0.5")


def questions_calibration(work: Path, out: Path) -> Arguments:
    shutil.copytree(work / "questions-run", out / "run")
    return ("calibrate", out / "run", "--metric", "macro_recall", "--wanted-accuracy", "0.5")


def distillation(work: Path, out: Path) -> Arguments:
    shutil.copytree(work / "run", out / "run")
    return ("distill", out / "run", *FEW_TEXTS)


def removed_student(work: Path, out: Path) -> Arguments:
    shutil.copytree(work / "student-run", out / "run")
    return ("distill", out / "run", "--remove")


def exported_student(work: Path, out: Path) -> Arguments:
    return ("export", work / "student-run", "--to", "student", "--out", out / "student", "--tolerance", "1")


def new_report(work: Path, out: Path) -> Arguments:
    shutil.copytree(work / "run", out / "run")
    (out / "run" / "README.md").unlink()
    return ("report", out / "run", "--rewrite")


def comparison(work: Path, out: Path) -> Arguments:
    for name in ("one", "two"):
        shutil.copytree(work / "run", out / name)
    return ("compare", out / "one", out / "two", "--out", out / "figures")


def review(work: Path, out: Path) -> Arguments:
    return ("review", work / "recipe.yaml", "--out", out / "review", "--folds", "2", "--resume")


def questions_review(work: Path, out: Path) -> Arguments:
    rows = ("--set", "data.validation_rows=null", "--set", "data.test_rows=null", "--set", "train.max_steps=2")
    return ("review", work / "questions.yaml", "--out", out / "review", "--folds", "2", "--resume", *rows)


COMMANDS: dict[str, Prepare] = {
    "run": new_run, "overwrite": overwritten_run, "train": training, "calibrate": calibration, "report": new_report,
    "compare": comparison, "review": review, "questions": new_questions_run,
    "questions-calibrate": questions_calibration, "questions-review": questions_review,
    "distill": distillation, "distill-remove": removed_student, "export-student": exported_student,
}  # fmt: skip
FAULTS = {"kill": 0, "full": errno.ENOSPC, "read-only": errno.EROFS}


def check(lab: CrashLab, work: Path, out: Path, command: str, fault: str, points: int | None) -> int:
    runs = {"run", "overwrite", "questions"} & {command}
    differs = [f"run/{name}" for name in UNLIKE] if runs else []
    if command == "questions":
        decisions = ("mood", "rain", "quality", "tags/01", "tags/02")
        differs += [f"run/questions/{decision}/{name}" for decision in decisions for name in UNLIKE]
    if command == "train":
        # A checkpoint that was being deleted stays, as one that is too old to resume from.
        differs = ["run/checkpoints/"]
    if command in {"review", "questions-review"}:
        differs = ["review/review.json", *(f"review/folds/{fold}/fold.json" for fold in (1, 2))]
    return check_crashes(
        lab,
        out / "out",
        lambda: COMMANDS[command](work, out / "out"),
        points=points,
        error=FAULTS[fault],
        differs=differs,
    )


@pytest.mark.parametrize(
    ("command", "fault", "points"),
    [
        ("run", "kill", 6),
        ("overwrite", "kill", 3),
        ("calibrate", "kill", 5),
        ("run", "full", 3),
        ("questions", "kill", 3),
        ("questions-calibrate", "kill", 3),
        ("questions-review", "kill", 3),
        ("calibrate", "full", 3),
        ("distill", "kill", 2),
        ("distill-remove", "kill", 6),
        ("export-student", "kill", 2),
    ],
)
def test_some_crashes(crash_lab: CrashLab, work: Path, tmp_path: Path, command: str, fault: str, points: int) -> None:
    check(crash_lab, work, tmp_path, command, fault, points)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("command", COMMANDS)
def test_every_crash(crash_lab: CrashLab, work: Path, tmp_path: Path, command: str, fault: str) -> None:
    points = os.environ.get("CRASH_POINTS")
    count = check(crash_lab, work, tmp_path, command, fault, int(points) if points else None)
    print(f"{command}, {fault}: {count} calls")
