"""The review folder: the files of a review of the training labels, finished or interrupted.

N: rows. K: labels.
"""

import csv
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from whinchat.errors import RunError
from whinchat.evaluation.label_noise import FoldRecord, Review, ReviewedRow
from whinchat.evaluation.question_review import QuestionsReview, ReviewedAnswer
from whinchat.output_files import remove_folder, replace_file, writing
from whinchat.recipe.loader import conflicting_keys
from whinchat.recipe.schema import Recipe
from whinchat.storage.folder_entry import FolderEntry
from whinchat.storage.json_records import read_json_record, write_json_record
from whinchat.storage.owned_folder import check_owned, hold_swept

T = TypeVar("T")

# The findings, and the reviewed rows or answers, strongest disagreement first.
AnyReview = tuple[Review, list[ReviewedRow]] | tuple[QuestionsReview, list[ReviewedAnswer]]
_ARROW_TYPES: dict[object, pa.DataType] = {
    int: pa.int64(),
    str: pa.string(),
    float: pa.float64(),
    str | None: pa.string(),
}


@dataclass(frozen=True)
class ReviewPlan:
    """The settings and data of a review. A review is resumed only with an equal plan."""

    recipe: Recipe
    folds: int
    train_fingerprint: str
    data_revision: str | None
    model_commit: str | None


@dataclass(frozen=True)
class FoldFolder:
    """The files of one fold of a review."""

    path: Path

    checkpoints = FolderEntry("checkpoints", "Training checkpoints to resume from.")
    adapter = FolderEntry("adapter", "The adapter trained on the other folds; removed when the scores are stored.")
    scores = FolderEntry(
        "scores.npy",
        "Log-probabilities of the labels in the fold's rows, (n, K); with questions, of the labels of all decisions.",
    )
    record = FolderEntry("fold.json", "The fold's record; written last, so that a fold with a record is finished.")

    def sweep(self) -> None:
        """Remove what only an unfinished fold needs: checkpoints and adapter."""
        shutil.rmtree(self.checkpoints, ignore_errors=True)
        shutil.rmtree(self.adapter, ignore_errors=True)


@dataclass(frozen=True)
class ReviewFolder:
    """The files of one review. No other module knows their names."""

    path: Path

    plan = FolderEntry(
        "plan.json", "The plan of the review; written first, so that a folder with a plan is a review folder."
    )
    review = FolderEntry(
        "review.json", "The findings; written last, so that a folder with findings holds a finished review."
    )
    table = FolderEntry(
        "review.csv", "Every training row, or with questions every answer in one, strongest disagreement first."
    )
    parquet = FolderEntry("review.parquet", "The same rows as Parquet, with the types of their columns.")
    folds = FolderEntry("folds", "One folder for each fold.")

    def fold(self, number: int) -> FoldFolder:
        """Return the folder of fold ``number``, counted from 0; its name counts from 1."""
        return FoldFolder(self.folds / str(number + 1))

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold the folder for this process alone, and sweep first what a process left that was killed.

        Raises:
            RunError: there is a file at its path, or another process writes into the folder.
            OutputError: the folder cannot be written.
        """
        with hold_swept(self.path, _not_a_review(self.path), lambda: self.folds.glob("*")):
            yield

    def open(self, plan: ReviewPlan) -> None:
        """Store ``plan``.

        Raises:
            OutputError: the folder cannot be written.
        """
        write_json_record(self.plan, plan)

    def clear(self) -> None:
        """Delete the files of the review except the plan, which stays until the next one takes its place."""
        with writing(self.path):
            for file in (self.review, self.table, self.parquet):
                file.unlink(missing_ok=True)
            remove_folder(self.folds)

    def read_plan(self) -> ReviewPlan:
        """Read the plan. Raises RunError as ``read`` does."""
        return self._read(self.plan, ReviewPlan)

    @property
    def has_questions(self) -> bool:
        """Whether the task of the review asks questions. Raises RunError as ``read`` does."""
        return bool(self.read_plan().recipe.task.questions)

    def read(self) -> Review | QuestionsReview:
        """Read the findings of a finished review.

        Raises:
            RunError: the file is missing, or not as whinchat writes it.
        """
        if self.has_questions:
            return self._read(self.review, QuestionsReview)
        return self._read(self.review, Review)

    def read_finished(self) -> AnyReview:
        """Read the findings and the rows of a finished review. Raises RunError as ``read`` and ``read_rows`` do."""
        found = self.read(), list(self.read_rows())
        return cast("AnyReview", found)

    def write_fold(self, number: int, scores: NDArray[np.float32], record: FoldRecord) -> None:
        """Store the scores (n, K) and the record of a finished fold, and remove its checkpoints and adapter."""
        fold = self.fold(number)

        def save(draft: Path) -> None:
            with draft.open("wb") as file:
                np.save(file, scores, allow_pickle=False)

        replace_file(fold.scores, save)
        write_json_record(fold.record, record)
        fold.sweep()

    def read_fold(self, number: int) -> tuple[NDArray[np.float32], FoldRecord] | None:
        """Read the scores (n, K) and the record of a fold; None for a fold that is not finished.

        Checkpoints and adapter that a kill left in a finished fold are removed.

        Raises:
            RunError: a file is not as whinchat writes it.
        """
        fold = self.fold(number)
        if not fold.record.is_file():
            return None
        record = self._read(fold.record, FoldRecord)
        fold.sweep()
        remedy = f"delete {fold.path} and repeat the fold with --resume"
        try:
            scores: NDArray[np.float32] = np.load(fold.scores, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise RunError(f"{fold.scores}: not readable ({error}); {remedy}") from None
        if len(scores) != record.rows:
            raise RunError(f"{fold.scores}: {len(scores)} rows of scores, but the fold has {record.rows}; {remedy}")
        return scores, record

    def write(self, review: Review | QuestionsReview, rows: Sequence[ReviewedRow] | Sequence[ReviewedAnswer]) -> None:
        """Write the rows, then the findings, each file atomically."""
        columns = fields(ReviewedAnswer if isinstance(review, QuestionsReview) else ReviewedRow)
        schema = pa.schema([(column.name, _ARROW_TYPES[column.type]) for column in columns])

        def write_table(draft: Path) -> None:
            with draft.open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(schema.names)
                writer.writerows(astuple(row) for row in rows)

        content = pa.Table.from_pylist([asdict(row) for row in rows], schema)
        replace_file(self.table, write_table)
        replace_file(self.parquet, lambda draft: pq.write_table(content, draft, compression="zstd"))
        write_json_record(self.review, review)

    def read_rows(self) -> tuple[ReviewedRow, ...] | tuple[ReviewedAnswer, ...]:
        """Read the rows of a finished review, strongest disagreement first.

        Raises:
            RunError: the file is missing, or is no Parquet file.
        """
        try:
            rows = pq.read_table(self.parquet).to_pylist()
            if self.has_questions:
                return tuple(ReviewedAnswer(**row) for row in rows)
            return tuple(ReviewedRow(**row) for row in rows)
        except (OSError, pa.ArrowInvalid, TypeError) as error:
            raise RunError(
                f"{self.parquet}: not readable ({error}); delete {self.review} and finish the review with --resume"
            ) from None

    def _read(self, path: Path, kind: type[T]) -> T:
        return read_json_record(path, kind, "finish the review with --resume, or start again with --overwrite")


def _not_a_review(path: Path) -> RunError:
    return RunError(f"{path}: exists and is no review folder; name another with --out")


def check_review_folder(recipe: Recipe, folds: int, folder: ReviewFolder, existing: str) -> None:
    """Check that a review may use ``folder``. Nothing is created or deleted.

    Raises:
        RunError: the folder holds something other than a review, or a review while ``existing`` is "refuse", or a
            review of other settings while ``existing`` is "resume".
    """

    def changes() -> list[str]:
        stored = folder.read_plan()
        changed = conflicting_keys(stored.recipe, recipe)
        if stored.folds != folds:
            changed.append(f"--folds ({stored.folds} there, {folds} now)")
        return changed

    check_owned(folder.path, folder.plan, existing, "review", _not_a_review(folder.path), changes)
