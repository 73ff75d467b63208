"""Files of any size, labelled: in parts that are written whole or not at all, and joined at the end.

Memory holds one part. A killed job goes on with the parts that are missing; those that are there are left as they are,
and the joined file is the same, byte for byte, whoever wrote which part.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from whinchat.data.formats.table_format import Block, BlockLocation, Columns, ColumnTypes, TableFormat
from whinchat.data.formats.table_registry import TABLE_FORMATS, open_table
from whinchat.errors import DataError
from whinchat.inference.predictor import Predictions, Predictor
from whinchat.progress import progress
from whinchat.storage.atomic import write_json
from whinchat.storage.locate import find_classifier

# Of a probability in a file: finer differences are rounding of the model's own.
_DIGITS = 6
# Half a minute on two cores for a small model: little is lost by a kill.
ROWS_PER_PART = 1000


@dataclass(frozen=True)
class PredictionJob:
    """One file to be labelled, and all that decides what comes out.

    Attributes:
        source, out: the table, and where the labelled one goes.
        column: of the texts.
        prefix: before the names of the added columns.
        rows_per_part: how many rows are labelled and written together.
        classifier: a fingerprint of the adapter, its recipe and its calibration.
        labels: of the classifier.
        bytes, modified: of the source, so that one that has changed is not taken for it.
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
        """Folder of the parts, until they are joined."""
        return Path(f"{self.out}.parts")

    @property
    def note(self) -> Path:
        """What was done, beside the labelled file."""
        return Path(f"{self.out}.json")

    @property
    def kinds(self) -> ColumnTypes:
        """Names of the added columns, and what their cells are."""
        return added_column_types(self.labels, self.prefix)

    def table(self) -> TableFormat:
        """The source, opened.

        Raises:
            DataError: it cannot be read, or has a column of an added one's name.
        """
        return open_unlabeled(Path(self.source), self.column, self.kinds)

    def part(self, place: BlockLocation) -> Path:
        """The file of one part; there only when it is whole."""
        return self.parts / f"{place.number:08d}{Path(self.source).suffix}"


def added_column_types(labels: Sequence[str], prefix: str = "") -> ColumnTypes:
    """Names of the columns that labelling adds, and what their cells are."""
    shares = {f"p_{label}": float for label in labels}
    names: ColumnTypes = {"label": str, "unsure": bool, **shares, "error": str}
    return {f"{prefix}{name}": kind for name, kind in names.items()}


def open_unlabeled(path: Path, column: str, kinds: ColumnTypes) -> TableFormat:
    """The table in ``path``, which has none of the columns that are to be added.

    Raises:
        DataError: it cannot be read, or has one of them.
    """
    found = open_table(path, column)
    if taken := [name for name in kinds if name in found.names]:
        raise DataError(f"{path}: has a column {taken[0]!r} already; choose a prefix for the added ones (--prefix)")
    return found


@dataclass(frozen=True)
class LabelCounts:
    """What is in some rows: how many, how many of them could not be read or are doubted, and their labels."""

    rows: int
    bad: int
    unsure: int
    labels: dict[str, int]

    @classmethod
    def of(cls, columns: Columns) -> LabelCounts:
        """Of rows with these added columns."""
        label, unsure, *_, error = columns.values()
        counts = Counter(one for one in label if one is not None)
        return cls(len(error), sum(map(bool, error)), sum(map(bool, unsure)), dict(counts))

    @classmethod
    def total(cls, ones: Sequence[LabelCounts], labels: Sequence[str]) -> LabelCounts:
        """Of all together."""
        counts: Counter[str] = Counter()
        for one in ones:
            counts.update(one.labels)
        return cls(
            sum(one.rows for one in ones),
            sum(one.bad for one in ones),
            sum(one.unsure for one in ones),
            {label: counts[label] for label in labels},
        )


def plan_jobs(
    run: Path, source: Path, out: Path, column: str | None = None, prefix: str = "", rows_per_part: int = ROWS_PER_PART
) -> list[PredictionJob]:
    """One job for each table: ``source`` itself, or every one in that folder; fields as those of ``Job``.

    Raises:
        DataError: no table there, or ``out`` cannot hold what comes of it.
        RunError: no classifier in ``run``.
    """
    found = find_classifier(run)
    recipe = found.recipe
    if source.is_dir():
        if out.resolve().is_relative_to(source.resolve()):
            raise DataError(f"{out}: lies inside {source}, and would be labelled itself; choose another --out")
        files = sorted(one for one in source.rglob("*") if one.is_file() and one.suffix.lower() in TABLE_FORMATS)
        if not files:
            raise DataError(f"{source}: holds no {', '.join(TABLE_FORMATS)} file")
        pairs = [(one, out / one.relative_to(source)) for one in files]
    else:
        pairs = [(source, out / source.name if out.is_dir() else out)]
    fingerprint = _fingerprint(found.folder)
    jobs = []
    for one, goal in pairs:
        if goal.suffix.lower() != one.suffix.lower():
            raise DataError(
                f"{goal}: must end in {one.suffix}, as {one} does; whinchat adds columns and keeps the format"
            )
        if goal.resolve() == one.resolve():
            raise DataError(f"{goal}: is the very file to be labelled; choose another --out")
        size, modified = (one.stat().st_size, one.stat().st_mtime_ns) if one.is_file() else (0, 0)
        named, labels = column or recipe.data.text_column, recipe.task.labels
        jobs.append(
            PredictionJob(str(one), str(goal), named, prefix, rows_per_part, fingerprint, labels, size, modified)
        )
    return jobs


def _fingerprint(folder: Path) -> str:
    """Of all files that decide an answer."""
    digest = hashlib.sha256()
    for one in sorted(folder.iterdir()):
        if one.is_file():
            digest.update(one.name.encode() + b"\0")
            with one.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def open_job(job: PredictionJob, overwrite: bool) -> LabelCounts | None:
    """Make the folder of the parts, or take up the one that is there; what was found, where all is done already.

    Raises:
        DataError: the labelled file or parts of it are there, of another job.
    """
    if overwrite:
        shutil.rmtree(job.parts, ignore_errors=True)
        for one in (Path(job.out), job.note):
            one.unlink(missing_ok=True)
    known = json.loads(json.dumps(asdict(job)))
    if Path(job.out).exists():
        done = _read(job.note)
        if done.get("job") != known:
            raise DataError(f"{job.out}: is there already; use --overwrite, or choose another --out")
        shutil.rmtree(job.parts, ignore_errors=True)
        return LabelCounts(**done["found"])
    mark = job.parts / "job.json"
    if job.parts.exists() and (changed := [key for key in known if _read(mark).get(key) != known[key]]):
        raise DataError(
            f"{job.parts}: holds parts of another job (different: {', '.join(changed)}); use --overwrite to start again"
        )
    job.parts.mkdir(parents=True, exist_ok=True)
    write_json(mark, known)
    return None


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def predict_part(predictor: Predictor, job: PredictionJob, table: TableFormat, place: BlockLocation, bar: Any) -> None:
    """Label one block and write it; nothing is there before all of it is."""
    block = table.read(place)
    columns = _columns(predictor, block, job.kinds, bar)
    tally = LabelCounts.of(columns)
    part = job.part(place)
    write_json(part.with_suffix(".json"), asdict(tally))
    made = part.with_name(f".{part.name}.{os.getpid()}")
    table.write(made, block, columns, job.kinds)
    made.replace(part)


def _columns(predictor: Predictor, block: Block, kinds: ColumnTypes, bar: Any) -> Columns:
    texts = readable_texts(block)
    predictions = predictor.predict(texts, deterministic=True, bar=bar) if texts else None
    bar.update(len(block.faults) - len(texts))
    return added_columns(block, kinds, predictions)


def readable_texts(block: Block) -> list[str]:
    """The texts of those rows that could be read."""
    return [text for text, fault in zip(block.texts, block.faults, strict=True) if not fault]


def added_columns(block: Block, kinds: ColumnTypes, predictions: Predictions | None) -> Columns:
    """A cell of each added column for each row; None where the row could not be read.

    ``predictions`` are those for the ``readable_texts`` of the block; None if it has none.
    """
    good = [at for at, fault in enumerate(block.faults) if not fault]
    columns: Columns = {name: [None] * len(block.faults) for name in kinds}
    label, unsure, *shares, error = columns.values()
    error[:] = block.faults
    if predictions is not None:
        names, rounded = predictions.label_names, predictions.probabilities.round(_DIGITS)
        for place, at in enumerate(good):
            label[at], unsure[at] = names[place], bool(predictions.unsure[place])
            for column, share in zip(shares, rounded[place].tolist(), strict=True):
                column[at] = share
    return columns


def finish_job(job: PredictionJob, table: TableFormat, places: Sequence[BlockLocation]) -> LabelCounts:
    """Join the parts, write down what was done, and clear the parts away."""
    parts = [job.part(place) for place in places]
    tally = LabelCounts.total([LabelCounts(**_read(part.with_suffix(".json"))) for part in parts], job.labels)
    made = job.parts / f"whole{Path(job.source).suffix}"
    table.join(parts, made, job.kinds)
    write_json(job.note, {"job": asdict(job), "found": asdict(tally)})
    made.replace(job.out)
    shutil.rmtree(job.parts)
    return tally


# Labels the parts of a job that are missing, moving a bar on.
PartWorker = Callable[[PredictionJob, TableFormat, Sequence[BlockLocation], Any], None]


def predict_in_process(run: Path) -> PartWorker:
    """In this process."""
    loaded: list[Predictor] = []

    def work(job: PredictionJob, table: TableFormat, places: Sequence[BlockLocation], bar: Any) -> None:

        if not loaded:
            loaded.append(Predictor.load(run))
        for place in places:
            predict_part(loaded[0], job, table, place, bar)

    return work


def predict_tables(jobs: Iterable[PredictionJob], work: PartWorker, overwrite: bool = False) -> dict[str, LabelCounts]:
    """Do every job, one after the other; what each labelled file holds.

    Raises:
        DataError: a table cannot be read, or what is there already is of another job; finished parts stay.
    """
    jobs = list(jobs)
    # What can go wrong early goes wrong before anything is labelled.
    tables = [job.table() for job in jobs]
    found: dict[str, LabelCounts] = {}
    for job, table in zip(jobs, tables, strict=True):
        done = open_job(job, overwrite)
        if done is None:
            with progress(f"Reading {job.source}", job.bytes, "bytes") as bar:
                places = list(table.places(job.rows_per_part, bar.update))
            missing = [place for place in places if not job.part(place).is_file()]
            rows = sum(place.rows for place in places)
            left = sum(place.rows for place in missing)
            with progress("Labelling", rows, initial=rows - left) as bar:
                if missing:
                    work(job, table, missing, bar)
            done = finish_job(job, table, places)
        found[job.out] = done
    return found
