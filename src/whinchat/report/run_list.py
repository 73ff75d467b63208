"""List the runs in a folder, one line each."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Literal

from whinchat.errors import RunError, WhinchatError
from whinchat.evaluation.question_metric_registry import QuestionMetric
from whinchat.evaluation.question_results import QuestionMetrics
from whinchat.recipe.method_names import method_name
from whinchat.report.formatting import format_bytes, format_count, format_duration, format_number
from whinchat.report.text_table import Columns, TextTable
from whinchat.storage.run_folder import RunFolder

RunState = Literal["finished", "trained", "begun", "unreadable"]


@dataclass(frozen=True)
class RunSummary:
    """One run of a folder; a field is None if it is not known.

    Attributes:
        name: name of the run folder.
        state: ``finished``; ``trained`` but not evaluated; ``begun``, so not trained yet; or ``unreadable``.
        created: when the run was finished, or begun if it is not finished; ISO 8601.
        bytes: size on disk.
        task: name of the task.
        method: name of the fine-tuning method.
        rows: number of training rows.
        before: macro-F1 with label scoring before training.
        after: macro-F1 after training of the answers that ``whinchat predict`` gives.
        questions: number of questions of the task; None for a task with labels.
        mean_before, mean_after: as ``before`` and ``after``, for a finished run with questions: the mean over the
            questions of the main metric of their type. None where the metric of a question is not defined.
        seconds: time of all stages; None for a resumed run, whose earlier processes were not timed.
        problem: why the run cannot be read.
    """

    name: str
    state: RunState
    created: str
    bytes: int
    task: str | None = None
    method: str | None = None
    rows: int | None = None
    before: float | None = None
    after: float | None = None
    questions: int | None = None
    mean_before: float | None = None
    mean_after: float | None = None
    seconds: float | None = None
    problem: str | None = None


def list_runs(folder: Path) -> list[RunSummary]:
    """Return the runs in ``folder``, the newest first; a run that cannot be read is listed with its problem.

    Raises:
        RunError: there is no such folder.
    """
    if not folder.is_dir():
        raise RunError(
            f"{folder}: there is no such folder; runs are written to runs/ by default, so start from the folder that "
            "holds runs/, or name another folder"
        )
    folders = [run for run in map(RunFolder, folder.iterdir()) if run.recipe.is_file() and not run.is_model]
    return sorted(map(_summarize, folders), key=lambda run: run.created, reverse=True)


def runs_table(runs: list[RunSummary]) -> TextTable:
    """Return the runs as a table of text cells."""
    questions: Columns[RunSummary] = {
        "questions": lambda run: "" if run.questions is None else format_count(run.questions),
        "mean of main metrics": lambda run: _change(run.mean_before, run.mean_after),
    }
    columns: Columns[RunSummary] = {
        "run": lambda run: run.name,
        "task": lambda run: run.task or "",
        "method": lambda run: run.method or "",
        "rows": lambda run: "" if run.rows is None else format_count(run.rows),
        "macro-F1": lambda run: _change(run.before, run.after),
        **(questions if any(run.questions for run in runs) else {}),
        "time": lambda run: format_duration(run.seconds) if run.state == "finished" else run.state,
        "size": lambda run: format_bytes(run.bytes),
    }
    return TextTable.of("Runs", runs, columns)


def _change(before: float | None, after: float | None) -> str:
    """Return the numbers that are known, the one after training behind an arrow."""
    return " → ".join(format_number(one) for one in (before, after) if one is not None)


def _mean(metrics: Sequence[tuple[QuestionMetric, QuestionMetrics]]) -> float | None:
    """Return the mean of one metric of each question; None where one of them is not defined."""
    values = [own.values[metric.name] for metric, own in metrics]
    known = [value for value in values if value is not None]
    return fmean(known) if len(known) == len(values) else None


def _summarize(folder: RunFolder) -> RunSummary:
    name, size = folder.path.name, sum(path.stat().st_size for path in folder.path.rglob("*") if path.is_file())
    begun = datetime.fromtimestamp(folder.recipe.stat().st_mtime, UTC).isoformat(timespec="seconds")
    try:
        recipe = folder.read_recipe()
        before = folder.read_evaluation(folder.before).score.macro_f1 if folder.before.is_file() else None
        after = folder.read_shipped().macro_f1 if folder.after.is_file() else None
        manifest = folder.read_manifest() if folder.manifest.is_file() else None
        count = len(recipe.task.questions) or None
        results = folder.read_questions().questions if count and manifest is not None else ()
    except WhinchatError as error:
        return RunSummary(name, "unreadable", begun, size, problem=str(error))
    if manifest is None:
        state: RunState = "trained" if folder.adapter.is_dir() else "begun"
        method = method_name(recipe.adapter, recipe.backbone.load_in)
        return RunSummary(
            name, state, begun, size, recipe.task.name, method, before=before, after=after, questions=count
        )
    times = manifest.timings_seconds
    return RunSummary(
        name, "finished", manifest.created, size, recipe.task.name, method_name(recipe.adapter, manifest.load_in),
        rows=manifest.splits["train"].rows, before=before, after=after, questions=count,
        mean_before=_mean([(result.headline, result.before) for result in results]) if results else None,
        mean_after=_mean([(result.headline, result.shipped) for result in results]) if results else None,
        seconds=sum(times.values()) if "train" in times else None,
    )  # fmt: skip
