"""The review folder: what a review of train's labels leaves, and what a killed one goes on from.

N: rows. K: labels.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from whinchat.errors import RunError
from whinchat.evaluation.label_noise import FoldRecord, Review, ReviewedRow
from whinchat.recipe.loader import conflicting_keys
from whinchat.recipe.schema import Recipe
from whinchat.storage.atomic import replace_file
from whinchat.storage.json_records import read_json_record, write_json_record

T = TypeVar("T")

_COLUMNS = tuple(field.name for field in fields(ReviewedRow))


@dataclass(frozen=True)
class ReviewPlan:
    """What a review was started on; it can be resumed only on the same."""

    recipe: Recipe
    folds: int
    train_fingerprint: str
    data_revision: str | None
    model_commit: str | None


@dataclass(frozen=True)
class FoldFolder:
    """The layout of one fold's folder."""

    path: Path

    @property
    def checkpoints(self) -> Path:
        """States to resume from."""
        return self.path / "checkpoints"

    @property
    def adapter(self) -> Path:
        """The adapter trained on the other folds; gone once its scores are stored."""
        return self.path / "adapter"

    @property
    def scores(self) -> Path:
        """Log-probabilities of the fold's rows, (n, K)."""
        return self.path / "scores.npy"

    @property
    def facts(self) -> Path:
        """How it was judged; written last, so a fold that has it is finished."""
        return self.path / "fold.json"


@dataclass(frozen=True)
class ReviewFolder:
    """The layout of one review's folder. Nothing outside this module knows a file name."""

    path: Path

    @property
    def plan(self) -> Path:
        """What the review was started on; a folder that has it is a review's."""
        return self.path / "plan.json"

    @property
    def review(self) -> Path:
        """The findings; written last, so a folder that has them holds a finished review."""
        return self.path / "review.json"

    @property
    def table(self) -> Path:
        """Every row of train, those the model disagrees with most first."""
        return self.path / "review.csv"

    @property
    def parquet(self) -> Path:
        """The same rows with their types."""
        return self.path / "review.parquet"

    @property
    def folds(self) -> Path:
        """A folder for each fold."""
        return self.path / "folds"

    def fold(self, number: int) -> FoldFolder:
        """That of fold ``number``, from 0; people count from 1."""
        return FoldFolder(self.folds / str(number + 1))

    def open(self, plan: ReviewPlan) -> None:
        """Make the folder and store ``plan``.

        Raises:
            RunError: the folder cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as fault:
            raise RunError(f"{self.path}: cannot be made ({fault.strerror}); choose another with --out") from None
        write_json_record(self.plan, plan)

    def clear(self) -> None:
        """Delete what a review leaves and nothing else; the plan last, so that a kill leaves a review's folder."""
        for file in (self.review, self.table, self.parquet):
            file.unlink(missing_ok=True)
        if self.folds.is_dir():
            shutil.rmtree(self.folds)
        self.plan.unlink(missing_ok=True)

    def read_plan(self) -> ReviewPlan:
        """What the review was started on; raises RunError as ``read`` does."""
        return self._read(self.plan, ReviewPlan)

    def read(self) -> Review:
        """The findings of a finished review.

        Raises:
            RunError: the file is missing, or not as whinchat wrote it.
        """
        return self._read(self.review, Review)

    def write_fold(self, number: int, scores: NDArray[np.float32], facts: FoldRecord) -> None:
        """Store the scores (n, K) of a fold that is done, and drop what only training it needed."""
        fold = self.fold(number)

        def save(draft: Path) -> None:
            with draft.open("wb") as file:
                np.save(file, scores, allow_pickle=False)

        replace_file(fold.scores, save)
        write_json_record(fold.facts, facts)
        shutil.rmtree(fold.checkpoints, ignore_errors=True)
        shutil.rmtree(fold.adapter, ignore_errors=True)

    def read_fold(self, number: int) -> tuple[NDArray[np.float32], FoldRecord] | None:
        """What ``write_fold`` stored; None for a fold that is not done.

        Raises:
            RunError: a file is not as whinchat wrote it.
        """
        fold = self.fold(number)
        if not fold.facts.is_file():
            return None
        facts = self._read(fold.facts, FoldRecord)
        try:
            scores: NDArray[np.float32] = np.load(fold.scores, allow_pickle=False)
        except (OSError, ValueError) as fault:
            raise RunError(
                f"{fold.scores}: not readable ({fault}); delete {fold.path} and --resume judges that fold again"
            ) from None
        if len(scores) != facts.rows:
            raise RunError(
                f"{fold.scores}: {len(scores)} rows of scores, but the fold has {facts.rows}; "
                f"delete {fold.path} and --resume judges that fold again"
            )
        return scores, facts

    def write(self, review: Review, rows: Sequence[ReviewedRow]) -> None:
        """Write the rows, then the findings; each file is replaced whole or not at all."""

        def write_table(draft: Path) -> None:
            with draft.open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(_COLUMNS)
                writer.writerows([getattr(row, name) for name in _COLUMNS] for row in rows)

        types = {int: pa.int64(), float: pa.float64(), str: pa.string()}
        kinds = [types[int], *[types[str]] * 3, *[types[float]] * 3, types[str]]
        content = pa.table(
            {
                name: pa.array([getattr(row, name) for row in rows], kind)
                for name, kind in zip(_COLUMNS, kinds, strict=True)
            }
        )
        replace_file(self.table, write_table)
        replace_file(self.parquet, lambda draft: pq.write_table(content, draft, compression="zstd"))
        write_json_record(self.review, review)

    def read_rows(self) -> tuple[ReviewedRow, ...]:
        """The rows of a finished review, in their order.

        Raises:
            RunError: the file is missing, or not a Parquet file.
        """
        try:
            return tuple(ReviewedRow(**row) for row in pq.read_table(self.parquet).to_pylist())
        except (OSError, pa.ArrowInvalid, TypeError) as fault:
            raise RunError(f"{self.parquet}: not readable ({fault}); delete {self.review} and --resume") from None

    def _read(self, path: Path, kind: type[T]) -> T:
        return read_json_record(path, kind, "finish the review with --resume, or start again with --overwrite")


def check_review_folder(recipe: Recipe, folds: int, path: Path, existing: str) -> ReviewFolder:
    """The review folder, if this review may have it; nothing is made or deleted yet.

    Raises:
        RunError: the folder holds something else, or a review and ``existing`` is "refuse", or another review.
    """
    folder = ReviewFolder(path)
    holds_one = folder.plan.is_file()
    if path.exists() and (not path.is_dir() or (any(path.iterdir()) and not holds_one)):
        raise RunError(f"{path}: is there and is no review folder; choose another with --out")
    if not holds_one or existing == "overwrite":
        return folder
    if existing == "refuse":
        raise RunError(
            f"{path}: already holds a review; --resume goes on with it, --overwrite starts again, --out names another"
        )
    stored = folder.read_plan()
    changed = conflicting_keys(stored.recipe, recipe)
    if stored.folds != folds:
        changed.append(f"--folds ({stored.folds} there, {folds} now)")
    if changed:
        raise RunError(
            f"{path}: holds another review, so it cannot be resumed with these settings; "
            f"different: {', '.join(changed)}; use --overwrite or another --out"
        )
    return folder
