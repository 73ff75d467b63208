"""Jobs that label one table each: planned, resumed, labelled part by part, and finished.

A part is written whole or not at all, so a job that was killed goes on with the parts that are missing. The joined
table is the same, byte for byte, whichever process wrote which part.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from whinchat.data.formats.table_format import BlockLocation, ColumnTypes, TableFormat
from whinchat.data.formats.table_registry import table_suffixes
from whinchat.errors import DataError
from whinchat.inference.prediction_columns import (
    LabelCounts,
    added_column_types,
    added_columns,
    open_unlabeled,
    readable_texts,
    with_prompt_faults,
)
from whinchat.inference.predictor import Predictor
from whinchat.progress import Progress
from whinchat.storage.atomic import write_json
from whinchat.storage.locate import find_classifier

# A small model labels a part in about half a minute on two cores, so a killed job loses little.
ROWS_PER_PART = 1000


@dataclass(frozen=True)
class PredictionJob:
    """One table to label, with everything that decides the output.

    Attributes:
        source: path of the table.
        out: path of the labelled table.
        column: name of the column with the texts.
        prefix: prefix of the names of the added columns.
        rows_per_part: how many rows are labelled and written together.
        classifier: fingerprint of the adapter, its recipe and its calibration.
        labels: the classifier's labels.
        bytes: size of the source; a source that was changed between two calls is noticed by ``bytes`` and ``modified``.
        modified: time of the source's last change, in nanoseconds since the epoch.
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

    @property
    def parts(self) -> Path:
        """Folder of the parts until they are joined."""
        return Path(f"{self.out}.parts")

    @property
    def note(self) -> Path:
        """File beside the labelled table that records the finished job and its counts."""
        return Path(f"{self.out}.json")

    @property
    def column_types(self) -> ColumnTypes:
        """Names of the added columns and the types of their cells."""
        return added_column_types(self.labels, self.prefix)

    def open_source(self) -> TableFormat:
        """Open the source.

        Raises:
            DataError: the source cannot be read, or has a column with the name of an added column.
        """
        return open_unlabeled(Path(self.source), self.column, self.column_types)

    def part(self, location: BlockLocation) -> Path:
        """File of one part, which exists only when it is whole."""
        return self.parts / f"{location.number:08d}{Path(self.source).suffix}"


# Labels the blocks of a table that a job still lacks and writes them as parts, advancing a progress bar.
PartWorker = Callable[[PredictionJob, TableFormat, Sequence[BlockLocation], Progress], None]


def plan_jobs(
    run: Path,
    source: Path,
    out: Path,
    text_column: str | None = None,
    prefix: str = "",
    rows_per_part: int = ROWS_PER_PART,
) -> list[PredictionJob]:
    """Plan one job for each table; for the arguments see ``predict_file`` and ``PredictionJob``.

    Raises:
        DataError: ``source`` holds no table, or ``out`` cannot hold the labelled ones.
        RunError: no finished classifier in ``run``.
    """
    classifier = find_classifier(run)
    recipe, fingerprint = classifier.recipe, _fingerprint(classifier.folder)
    column = text_column or recipe.data.text_column
    jobs = []
    for table, labelled in _pair_tables(source, out):
        if labelled.suffix.lower() != table.suffix.lower():
            raise DataError(
                f"{labelled}: must end in {table.suffix}, as {table} does; whinchat adds columns and keeps the format"
            )
        if labelled.resolve() == table.resolve():
            raise DataError(f"{labelled}: is the source itself; choose another --out")
        # A missing table is reported when it is opened.
        size, modified = (table.stat().st_size, table.stat().st_mtime_ns) if table.is_file() else (0, 0)
        settings = (column, prefix, rows_per_part, fingerprint, recipe.task.labels)
        jobs.append(PredictionJob(str(table), str(labelled), *settings, size, modified))
    return jobs


def _pair_tables(source: Path, out: Path) -> list[tuple[Path, Path]]:
    """Pair each table in ``source``, a file or a folder, with the path of its labelled copy."""
    if not source.is_dir():
        return [(source, out / source.name if out.is_dir() else out)]
    if out.resolve().is_relative_to(source.resolve()):
        raise DataError(f"{out}: lies inside {source}, and would be labelled itself; choose another --out")
    tables = sorted(path for path in source.rglob("*") if path.is_file() and path.suffix.lower() in table_suffixes())
    if not tables:
        raise DataError(f"{source}: holds no {', '.join(table_suffixes())} file")
    return [(table, out / table.relative_to(source)) for table in tables]


def _fingerprint(folder: Path) -> str:
    """Hash the names and contents of all files in a classifier's folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file():
            digest.update(path.name.encode() + b"\0")
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def open_job(job: PredictionJob, overwrite: bool) -> LabelCounts | None:
    """Make the folder of the parts, or resume the job whose parts are there.

    Returns:
        The counts of the labelled table where the job is finished already, else None.

    Raises:
        DataError: the labelled table or its parts are there, but come from another job.
    """
    if overwrite:
        shutil.rmtree(job.parts, ignore_errors=True)
        for path in (Path(job.out), job.note):
            path.unlink(missing_ok=True)
    as_json = json.loads(json.dumps(asdict(job)))
    if Path(job.out).exists():
        note = _read_object(job.note)
        if note.get("job") != as_json:
            raise DataError(f"{job.out}: is there already; use --overwrite, or choose another --out")
        shutil.rmtree(job.parts, ignore_errors=True)
        return LabelCounts(**note["found"])
    job_file = job.parts / "job.json"
    if job.parts.exists():
        earlier = _read_object(job_file)
        if changed := ", ".join(key for key in as_json if earlier.get(key) != as_json[key]):
            raise DataError(
                f"{job.parts}: holds parts of another job (different: {changed}); use --overwrite to start again"
            )
    job.parts.mkdir(parents=True, exist_ok=True)
    write_json(job_file, as_json)
    return None


def _read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object; a missing or damaged file gives an empty one."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def predict_part(
    predictor: Predictor, job: PredictionJob, table: TableFormat, location: BlockLocation, bar: Progress
) -> None:
    """Label one block of ``table`` and write it as a part, in one step at the end.

    Args:
        predictor: the classifier.
        job: the job that the part belongs to.
        table: the job's source.
        location: where the block is.
        bar: progress bar, advanced by each row.
    """
    block = with_prompt_faults(table.read_block(location), predictor.engine.template)
    texts = readable_texts(block)
    # Each text is scored with arithmetic that does not depend on its neighbours, so parts can be labelled anywhere.
    predictions = predictor.predict(texts, deterministic=True, bar=bar) if texts else None
    bar.update(len(block.faults) - len(texts))
    columns = added_columns(block, job.column_types, predictions)
    part = job.part(location)
    write_json(part.with_suffix(".json"), asdict(LabelCounts.of(columns)))
    draft = part.with_name(f".{part.name}.{os.getpid()}")
    table.write_part(draft, block, columns, job.column_types)
    draft.replace(part)


def finish_job(job: PredictionJob, table: TableFormat, locations: Sequence[BlockLocation]) -> LabelCounts:
    """Join the parts into the labelled table, write the note beside it, delete the parts and return the counts."""
    parts = [job.part(location) for location in locations]
    counts = [LabelCounts(**_read_object(part.with_suffix(".json"))) for part in parts]
    total = LabelCounts.total(counts, job.labels)
    draft = job.parts / f"whole{Path(job.source).suffix}"
    table.join_parts(parts, draft, job.column_types)
    write_json(job.note, {"job": asdict(job), "found": asdict(total)})
    draft.replace(job.out)
    shutil.rmtree(job.parts)
    return total
