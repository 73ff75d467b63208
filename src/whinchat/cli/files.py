"""``whinchat predict RUN INPUT --out OUTPUT``: files in, files out, and what they hold now."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from whinchat.cli.options import Engine
from whinchat.cli.output import emit_json, out, progress_on_stderr
from whinchat.errors import DataError

if TYPE_CHECKING:
    from whinchat.inference.predict_file import PartWorker


def worker(run: Path, engine: Engine, workers: int | None) -> PartWorker:
    """Who labels the parts.

    Raises:
        DataError: ``workers`` without an engine that has several. RunError: Ray is not installed.
    """
    if engine == "ray":
        from whinchat.inference.ray import predict_on_ray

        return predict_on_ray(run, workers)
    if workers is not None:
        raise DataError("--workers: goes with --engine ray; one process takes all cores by itself")
    from whinchat.inference.predict_file import predict_in_process

    return predict_in_process(run)


def print_labelled(
    run: Path,
    given: Sequence[str],
    goal: Path,
    column: str | None,
    prefix: str,
    work: PartWorker,
    *,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Label the one file or folder that was given, and say what came of it."""
    if len(given) != 1:
        raise DataError(f"--out: takes one file or folder to label, not {len(given)}; leave --out out to label texts")
    from whinchat.inference.predict_file import predict_tables
    from whinchat.inference.prediction_columns import LabelCounts
    from whinchat.inference.prediction_jobs import plan_jobs

    started = time.perf_counter()
    jobs = plan_jobs(run, Path(given[0]), goal, column, prefix)
    with progress_on_stderr():
        found = predict_tables(jobs, work, overwrite)
    seconds = time.perf_counter() - started
    labels = jobs[0].labels
    total = LabelCounts.total(list(found.values()), labels)
    if as_json:
        files = [{"out": path, **vars(tally)} for path, tally in found.items()]
        emit_json({**vars(total), "files": files})
        return
    table = Table("", *map(escape, labels), "unsure", "could not be read", "rows")
    rows = [*found.items(), *([("all", total)] if len(found) > 1 else [])]
    for name, one in rows:
        counts = (*(one.labels.get(label, 0) for label in labels), one.unsure, one.bad, one.rows)
        table.add_row(Text(name), *(f"{count:,}" for count in counts))
    out.print(table)
    if total.bad:
        out.print(f"Why {total.bad:,} rows could not be read stands in their column {prefix}error.", soft_wrap=True)
    out.print(f"{total.rows:,} rows in {seconds:,.0f} s", soft_wrap=True)
