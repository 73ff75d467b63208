"""Label tables of any size: ``predict_file`` in one call, in this process or through Ray."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from whinchat.data.formats.table_format import BlockLocation, TableFormat
from whinchat.errors import DataError
from whinchat.fast_start import no_garbage_collection
from whinchat.hub.client import fetch_classifier
from whinchat.inference.prediction_columns import LabelCounts
from whinchat.inference.prediction_jobs import PartWorker, PredictionJob, finish_job, open_job, plan_jobs, predict_part
from whinchat.inference.ray import predict_on_ray
from whinchat.progress import Progress, progress
from whinchat.storage.locking import lock_output

if TYPE_CHECKING:
    from whinchat.inference.question_predictor import AnyPredictor


def predict_file(  # noqa: PLR0913  # each is a choice of the caller's, most have a default
    run: str | Path,
    source: str | Path,
    out: str | Path,
    *,
    text_column: str | None = None,
    prefix: str = "",
    engine: Literal["local", "ray"] = "local",
    workers: int | None = None,
    overwrite: bool = False,
    safe_csv: bool = False,
    student: bool = True,
) -> dict[str, LabelCounts]:
    """Label a table of any size, or every table in a folder.

    A labelled table has the rows of its source in their order, with the columns ``label``, ``unsure``, ``p_LABEL`` for
    each label, and ``error`` added at the end. A classifier with questions adds ``QUESTION``, ``unsure_QUESTION``,
    ``expected_QUESTION`` for a score, and ``p_QUESTION_OPTION`` for each option instead; the answer to a ``multi``
    question is a JSON list of the options that apply. A row that cannot be read keeps its place, and ``error`` says
    what is wrong with it. Memory holds one part of a table at a time. A call that was killed goes on where it stopped
    when it is repeated with the same arguments, and the output is the same, byte for byte, in either engine.

    Args:
        run: folder of a finished run, of its adapter alone or of a merged model, or OWNER/NAME on the hub.
        source: a table in one of the formats of ``whinchat.data.formats.table_registry``, or a folder of tables.
        out: path of the labelled table, with the suffix of the source, or a folder. For a folder of tables, the folder
            that receives the labelled tables under the same names.
        text_column: name of the column with the texts; by default the column, or the columns, that the recipe
            names with ``data.text_column`` or ``data.text``.
        prefix: prefix of the names of the added columns.
        engine: "local" labels in this process; "ray" in several processes, on the Ray cluster that ``RAY_ADDRESS``
            names or on a cluster started on this machine. All machines must see the files under the same paths.
        workers: number of Ray processes; by default one for each accelerator, or for each core where there are none.
        overwrite: delete what is at ``out`` and start again.
        safe_csv: in labelled CSV and TSV tables, put an apostrophe before each cell, of the source or added, that a
            spreadsheet would take for a formula: one that begins with ``=``, ``+``, ``-``, ``@``, a tab or a carriage
            return.
        student: whether a student that ``distill_run`` made answers the texts of which it is sure.

    Returns:
        The path of each labelled table, and counts of its rows.

    Raises:
        DataError: no table in ``source``, a table that cannot be read or was changed meanwhile, a column that is
            missing or already taken, an ``out`` that is in use, or ``workers`` without Ray. Finished parts stay.
        OutputError: ``out`` cannot be written, as on a full disk. Finished parts stay.
        RunError: ``run`` holds no finished classifier, another process labels into ``out``, Ray is not installed, or
            a Ray worker died.
        HubError: the hub is out of reach, or has no such classifier.
        ModelError: the backbone cannot be loaded, a file of the classifier is damaged, or scores are not finite.
    """
    if workers is not None and engine != "ray":
        raise DataError("--workers: goes with --engine ray; one process takes all cores by itself")
    folder = fetch_classifier(run)
    work = predict_on_ray(folder, workers) if engine == "ray" else predict_in_process(folder)
    jobs = plan_jobs(folder, Path(source), Path(out), text_column, prefix, safe_csv=safe_csv, student=student)
    return predict_tables(jobs, work, overwrite)


def predict_in_process(run: Path) -> PartWorker:
    """Return a worker that labels parts in this process, and loads the classifier in ``run`` when first needed."""
    loaded: list[AnyPredictor] = []

    def work(job: PredictionJob, table: TableFormat, locations: Sequence[BlockLocation], bar: Progress) -> None:
        if not loaded:
            with no_garbage_collection():
                # Loads torch: only after everything has been checked that needs no model.
                from whinchat.inference.question_predictor import load_predictor

                loaded.append(load_predictor(run, student=job.student))
        for location in locations:
            predict_part(loaded[0], job, table, location, bar)

    return work


def predict_tables(jobs: Sequence[PredictionJob], work: PartWorker, overwrite: bool = False) -> dict[str, LabelCounts]:
    """Do ``jobs`` one after the other; ``predict_file`` documents the result and the errors.

    Every source is opened and every output tried before a model is loaded, so that a bad table and a read-only folder
    are reported at once.
    """
    tables = [job.open_source() for job in jobs]
    for job in jobs:
        job.require_writable()
    return {job.out: _do_job(job, table, work, overwrite) for job, table in zip(jobs, tables, strict=True)}


def _do_job(job: PredictionJob, table: TableFormat, work: PartWorker, overwrite: bool) -> LabelCounts:
    with lock_output(Path(job.out)):
        if (done := open_job(job, overwrite)) is not None:
            return done
        with progress(f"Reading {job.source}", job.bytes, "bytes") as bar:
            locations = list(table.locate_blocks(job.rows_per_part, bar.update))
        missing = [location for location in locations if job.finished_part(location) is None]
        rows, rows_left = (sum(location.rows for location in listed) for listed in (locations, missing))
        with progress("Labelling", rows, initial=rows - rows_left) as bar:
            if missing:
                work(job, table, missing, bar)
        return finish_job(job, table, locations)
