"""The runs in a folder, each in a line."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from whinchat.errors import RunError, WhinchatError
from whinchat.recipe.schema import method_name
from whinchat.report.formatting import format_bytes, format_count, format_duration, format_number
from whinchat.report.text_table import TextTable
from whinchat.storage.run_folder import RunFolder

RunState = Literal["finished", "trained", "begun", "unreadable"]


@dataclass(frozen=True)
class RunSummary:
    """One run; None where it is not known.

    Attributes:
        name: of its folder.
        state: finished; trained and not measured; begun, so neither; unreadable.
        created: when it was finished, or begun.
        task, method: as its recipe has them.
        rows: that it was trained on.
        before, after: macro-F1 by label scores.
        seconds: of all stages; None for a resumed run, part of whose time went with an earlier process.
        bytes: on disk.
        problem: why it cannot be read.
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
    seconds: float | None = None
    problem: str | None = None


def list_runs(folder: Path) -> list[RunSummary]:
    """The runs in ``folder``, the newest first; one that cannot be read is among them and says why.

    Raises:
        RunError: no such folder.
    """
    if not folder.is_dir():
        raise RunError(f"{folder}: no such folder; runs go to runs/ by default, so look from where you started them")
    found = [one for one in map(RunFolder, folder.iterdir()) if one.recipe.is_file() and not one.is_model]
    return sorted(map(_listed, found), key=lambda one: one.created, reverse=True)


def runs_table(runs: list[RunSummary]) -> TextTable:
    """The runs as cells of text."""
    columns = ("run", "task", "method", "rows", "macro-F1", "time", "size")
    rows = tuple(
        (
            one.name,
            one.task or "",
            one.method or "",
            "" if one.rows is None else format_count(one.rows),
            " → ".join(format_number(value) for value in (one.before, one.after) if value is not None),
            format_duration(one.seconds) if one.state == "finished" else one.state,
            format_bytes(one.bytes),
        )
        for one in runs
    )
    return TextTable("Runs", columns, rows)


def _listed(folder: RunFolder) -> RunSummary:
    name, size = folder.path.name, sum(one.stat().st_size for one in folder.path.rglob("*") if one.is_file())
    begun = datetime.fromtimestamp(folder.recipe.stat().st_mtime, UTC).isoformat(timespec="seconds")
    try:
        recipe = folder.read_recipe()
        before, after = (
            folder.read_evaluation(path).score.macro_f1 if path.is_file() else None
            for path in (folder.before, folder.after)
        )
        if folder.manifest.is_file():
            manifest = folder.read_manifest()
            times = manifest.timings_seconds
            return RunSummary(
                name,
                "finished",
                manifest.created,
                size,
                recipe.task.name,
                method_name(recipe.adapter, manifest.load_in),
                manifest.splits["train"].rows,
                before,
                after,
                sum(times.values()) if "train" in times else None,
            )
    except WhinchatError as fault:
        return RunSummary(name, "unreadable", begun, size, problem=str(fault))
    state: RunState = "trained" if folder.adapter.is_dir() else "begun"
    return RunSummary(
        name,
        state,
        begun,
        size,
        recipe.task.name,
        method_name(recipe.adapter, recipe.backbone.load_in),
        None,
        before,
        after,
    )
