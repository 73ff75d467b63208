"""Jobs that label one table each: planned, resumed, labelled part by part, and finished.

A part is written whole or not at all, so a job that was killed goes on with the parts that are missing. The joined
table is the same, byte for byte, whichever process wrote which part. One process at a time works on a labelled table:
the caller of these functions holds ``lock_output`` of the table.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from whinchat.checksums import file_sha256
from whinchat.data.cleaning import clean
from whinchat.data.formats.table_format import BlockLocation, ColumnTypes, TableFormat
from whinchat.data.formats.table_registry import find_table_format, table_suffix
from whinchat.data.learned_texts import LEARNED_TEXTS
from whinchat.data.text_columns import TextColumns
from whinchat.errors import DataError, OutputError, RunError
from whinchat.inference.paired_tables import PARTS_SUFFIX, PLAN_NAME, pair_tables, require_utf8
from whinchat.inference.prediction_columns import (
    LabelCounts,
    added_column_types,
    added_columns,
    answer_names,
    open_unlabeled,
    readable_texts,
    with_prompt_faults,
)
from whinchat.output_files import publish, replace_file, require_writable, sweep_drafts, writing
from whinchat.progress import Progress
from whinchat.recipe.question import Question
from whinchat.storage.json_records import read_json_record, write_json_record
from whinchat.storage.locate import find_classifier

if TYPE_CHECKING:  # loads torch, and a job is planned before that
    from whinchat.inference.question_predictor import AnyPredictor

T = TypeVar("T")

# A small model labels a part in about half a minute on two cores, so a killed job loses little.
ROWS_PER_PART = 1000


@dataclass(frozen=True)
class PredictionJob:
    """One table to label, with everything that decides the output.

    Attributes:
        source: path of the table.
        out: path of the labelled table.
        column: name of the column with the texts; empty where ``template`` makes them.
        prefix: prefix of the names of the added columns.
        rows_per_part: how many rows are labelled and written together.
        classifier: fingerprint of the adapter, its recipe and its calibration.
        labels: the classifier's labels.
        bytes: size of the source; a source that was changed between two calls is noticed by ``bytes`` and ``modified``.
        modified: time of the source's last change, in nanoseconds since the epoch.
        format: ``data.format`` of the classifier's recipe, for a source whose suffix no format has; "auto" elsewhere.
        safe_csv: whether an apostrophe is put before cells of CSV and TSV that spreadsheets take for formulas.
        template: ``data.text`` of the classifier's recipe, which makes the texts of columns; None for ``column``.
        questions: the questions of the classifier's task, where it has no labels.
        student: whether the student of a cascade answers the texts of which it is sure, if there is one.
    """

    source: str
    out: str
    column: str
    prefix: str
    rows_per_part: int
    classifier: str
    labels: tuple[str, ...]
    bytes: int
    modified: int
    format: str = "auto"
    safe_csv: bool = False
    template: str | None = None
    questions: Mapping[str, Question] = field(default_factory=dict)
    student: bool = True

    @property
    def text(self) -> TextColumns:
        """The columns with the texts."""
        return TextColumns((self.column,)) if self.template is None else TextColumns.of_template(self.template)

    @property
    def parts(self) -> Path:
        """Folder of the parts until they are joined."""
        return Path(f"{self.out}{PARTS_SUFFIX}")

    @property
    def note(self) -> Path:
        """File beside the labelled table that records the finished job and its counts."""
        return Path(f"{self.out}.json")

    @property
    def column_types(self) -> ColumnTypes:
        """Names of the added columns and the types of their cells."""
        return added_column_types(self.labels, self.prefix, self.questions)

    def open_source(self) -> TableFormat:
        """Open the source.

        Raises:
            DataError: the source cannot be read, or has a column with the name of an added column.
        """
        path, added = Path(self.source), self.column_types
        return open_unlabeled(path, self.text, added, format_name=self.format, escape_formulas=self.safe_csv)

    @property
    def plan(self) -> Path:
        """File among the parts that says which job they belong to; the first to be written, the last to be removed."""
        return self.parts / PLAN_NAME

    def part(self, location: BlockLocation) -> Path:
        """File of one part."""
        return self.parts / f"{location.number:08d}{Path(self.source).suffix}"

    def finished_part(self, location: BlockLocation) -> LabelCounts | None:
        """Return the counts of a part; None where the part is missing, or its content is not what was written."""
        part = self.part(location)
        note = _read_if_whole(part.with_suffix(".json"), PartNote)
        if note is None or note.found.rows != location.rows or not part.is_file() or file_sha256(part) != note.sha256:
            return None
        return note.found

    def require_writable(self) -> None:
        """Check that the labelled table, its note and its parts can be written.

        Raises:
            OutputError: one of them cannot, and the message says why.
        """
        for path in (Path(self.out), self.note, self.parts):
            require_writable(path)
        for path in (Path(self.out), self.note):
            if path.is_dir():
                raise OutputError(f"{path}: cannot be written (is a folder); remove it, or choose another --out")


@dataclass(frozen=True)
class JobNote:
    """A finished job and the counts of its labelled table."""

    job: PredictionJob
    found: LabelCounts


@dataclass(frozen=True)
class PartNote:
    """The counts of a part and the digest of its file; a part whose file has another digest is labelled again."""

    found: LabelCounts
    sha256: str


# Labels the blocks of a table that a job still lacks and writes them as parts, advancing a progress bar.
PartWorker = Callable[[PredictionJob, TableFormat, Sequence[BlockLocation], Progress], None]


def plan_jobs(
    run: Path,
    source: Path,
    out: Path,
    text_column: str | None = None,
    prefix: str = "",
    rows_per_part: int = ROWS_PER_PART,
    *,
    safe_csv: bool = False,
    student: bool = True,
) -> list[PredictionJob]:
    """Plan one job for each table; for the arguments see ``predict_file`` and ``PredictionJob``.

    Raises:
        DataError: ``source`` holds no table, or ``out`` cannot hold the labelled ones.
        RunError: no finished classifier in ``run``.
    """
    classifier = find_classifier(run, with_questions=True)
    recipe, fingerprint = classifier.recipe, classifier_fingerprint(classifier.folder)
    text = TextColumns.of(recipe.data, text_column or None)
    column = text.names[0] if text.template is None else ""
    jobs = []
    for table, labelled in pair_tables(source, out):
        require_utf8(table, labelled)
        if table_suffix(labelled) != table_suffix(table):
            raise DataError(
                f"{labelled}: must end in {table_suffix(table)}, as {table} does; whinchat adds columns and keeps the "
                "format"
            )
        if labelled.resolve() == table.resolve():
            raise DataError(f"{labelled}: is the source itself; choose another --out")
        size, modified = source_state(table)
        jobs.append(
            PredictionJob(
                str(table),
                str(labelled),
                column,
                prefix,
                rows_per_part,
                fingerprint,
                recipe.task.labels,
                size,
                modified,
                "auto" if find_table_format(table) else recipe.data.format,
                safe_csv,
                text.template,
                recipe.task.questions,
                student,
            )
        )
    return jobs


def source_state(table: Path) -> tuple[int, int]:
    """Return size and time of the last change of a table; zeros for a missing one, which is reported when opened."""
    return (table.stat().st_size, table.stat().st_mtime_ns) if table.is_file() else (0, 0)


def classifier_fingerprint(folder: Path) -> str:
    """Hash the names and contents of all files in a classifier's folder but the hashes of texts it has learned."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.name != LEARNED_TEXTS:
            digest.update(path.name.encode() + b"\0")
            digest.update(bytes.fromhex(file_sha256(path)))
    return digest.hexdigest()


def open_job(job: PredictionJob, overwrite: bool) -> LabelCounts | None:
    """Make the folder of the parts, or resume the job whose parts are there.

    Returns:
        The counts of the labelled table where the job is finished already, else None.

    Raises:
        DataError: the labelled table, its note or its parts are there, but come from another job.
        OutputError: the folder cannot be made, or an earlier job cannot be removed.
    """
    out = Path(job.out)
    if overwrite:
        with writing(out):
            out.unlink(missing_ok=True)
            job.note.unlink(missing_ok=True)
            _remove_parts(job)
    sweep_drafts(out.parent)
    note = _read_if_whole(job.note, JobNote)
    if out.exists():
        if note is None or note.job != job:
            raise DataError(f"{job.out}: is there already; use --overwrite, or choose another --out")
        with writing(job.parts):
            _remove_parts(job)
        return note.found
    if note is None and job.note.exists():
        raise DataError(
            f"{job.note}: is there already, and the note of this job would replace it; use --overwrite, or choose "
            "another --out"
        )
    with writing(job.parts):
        job.parts.mkdir(parents=True, exist_ok=True)
    sweep_drafts(job.parts)
    earlier = _read_if_whole(job.plan, PredictionJob)
    if earlier is None and any(path != job.plan for path in job.parts.iterdir()):
        raise DataError(f"{job.parts}: holds files, and no job.json says of which job; use --overwrite to start again")
    if earlier is not None and earlier != job:
        names = (one.name for one in fields(job))
        changed = ", ".join(name for name in names if getattr(earlier, name) != getattr(job, name))
        raise DataError(
            f"{job.parts}: holds parts of another job (different: {changed}); use --overwrite to start again"
        )
    if earlier is None:
        write_json_record(job.plan, job)
    return None


def _read_if_whole(path: Path, kind: type[T]) -> T | None:
    """Read a record; a missing or damaged file gives None."""
    try:
        return read_json_record(path, kind, "")
    except RunError:
        return None


def _remove_parts(job: PredictionJob) -> None:
    """Remove the folder of the parts, the file that says whose they are last, so that a kill leaves no doubt."""
    if not job.parts.is_dir():
        return
    for path in job.parts.iterdir():
        if path != job.plan:
            path.unlink()
    job.plan.unlink(missing_ok=True)
    job.parts.rmdir()


def predict_part(
    predictor: AnyPredictor,
    job: PredictionJob,
    table: TableFormat,
    location: BlockLocation,
    bar: Progress,
) -> None:
    """Label one block of ``table`` and write it as a part, in one step at the end.

    Args:
        predictor: the classifier.
        job: the job that the part belongs to.
        table: the job's source.
        location: where the block is.
        bar: progress bar, advanced by each row.

    Raises:
        DataError: an added column would overwrite a value of a row.
        ModelError: the scores of a text are not finite.
        OutputError: the part cannot be written.
    """
    block = with_prompt_faults(table.read_block(location), predictor.fault)
    texts = readable_texts(block)
    # Equal texts are answered once. Only those of a part are compared: a batch rounds by the texts that are in it, and
    # a part must be the same bytes whichever parts its process has labelled before.
    cleaned = [clean(text, predictor.recipe.task.clean) for text in texts]
    distinct = dict(zip(cleaned, texts, strict=True))
    places = {text: place for place, text in enumerate(distinct)}
    predictions = None
    if texts:
        answers = predictor.predict(list(distinct.values()), deterministic=True, bar=bar)
        predictions = answers.take([places[text] for text in cleaned])
    bar.update(len(block.faults) - len(distinct))
    columns = added_columns(block, job.column_types, predictions)
    counts = LabelCounts.of(block, predictions, len(texts) - len(distinct))
    part = job.part(location)
    replace_file(part, lambda draft: table.write_part(draft, block, columns, job.column_types))
    write_json_record(part.with_suffix(".json"), PartNote(counts, file_sha256(part)))


def finish_job(job: PredictionJob, table: TableFormat, locations: Sequence[BlockLocation]) -> LabelCounts:
    """Join the parts into the labelled table, write the note beside it, delete the parts and return the counts.

    Raises:
        DataError: the source was changed while it was labelled.
        RunError: parts are missing, or are not what was written.
        OutputError: the labelled table or its note cannot be written; the parts stay.
    """
    if source_state(Path(job.source)) != (job.bytes, job.modified):
        raise DataError(
            f"{job.source}: was changed while it was labelled, so its rows may have moved; use --overwrite to start "
            "again"
        )
    found = [job.finished_part(location) for location in locations]
    counts = [part for part in found if part is not None]
    if len(counts) < len(locations):
        raise RunError(
            f"{job.parts}: {len(locations) - len(counts)} of {len(locations)} parts are missing or damaged after the "
            "work; every process must see the same files under the same paths; the same command labels these parts"
        )
    total = LabelCounts.total(counts, answer_names(job.labels, job.questions))
    out = Path(job.out)
    draft = job.parts / f"whole{out.suffix}"
    with writing(out):
        table.join_parts([job.part(location) for location in locations], draft, job.column_types)
        if (written := table.count_rows(draft)) != total.rows:
            raise RunError(
                f"{job.parts}: {written:,} rows were written for {total.rows:,} in the source, which is a bug in "
                "whinchat; please report it with the table"
            )
        write_json_record(job.note, JobNote(job, total))
        publish(draft, out)
    # The labelled table is whole; whatever of the parts cannot be removed now goes at the next call.
    with suppress(OSError):
        _remove_parts(job)
    return total
