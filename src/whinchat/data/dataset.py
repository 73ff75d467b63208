"""The records of the data stage: splits, and the report of the checks on them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

from whinchat.errors import DataError

T = TypeVar("T")

# The answer to one decision about a text: the index of its label, the share of each label, or None where it is missing.
Answer = int | tuple[float, ...] | None

# The split of the texts that are trained on by probabilities of labels.
SOFT_SPLIT = "soft labels"


@dataclass(frozen=True)
class Split:
    """Texts and their labels, in order.

    Attributes:
        name: train, validation, test, or ``SOFT_SPLIT``.
        texts: the texts.
        labels: the label of each text, as an index into ``task.labels``. In a task with questions, the answer to its
            first decision, with one more index for a missing one.
        weights: the weight of each text in the training loss; empty for equal weights.
        answers: in a task with questions, the answers to all decisions about each text; otherwise empty.
        shares: the share of each label for each text, where labels are not certain; otherwise empty.
    """

    name: str
    texts: tuple[str, ...]
    labels: tuple[int, ...]
    weights: tuple[float, ...] = ()
    answers: tuple[tuple[Answer, ...], ...] = ()
    shares: tuple[tuple[float, ...], ...] = ()

    def __post_init__(self) -> None:
        if len(self.texts) != len(self.labels):
            raise DataError(f"{self.name}: {len(self.texts)} texts but {len(self.labels)} labels; they must pair up")

    def __len__(self) -> int:
        return len(self.texts)

    def head(self, rows: int | None) -> Split:
        """Return the first ``rows`` rows; None returns all."""
        return self.take(range(len(self))[:rows])

    def take(self, indices: Sequence[int]) -> Split:
        """Return the rows at ``indices``, in that order."""
        return Split(
            self.name,
            _at(self.texts, indices),
            _at(self.labels, indices),
            _at(self.weights, indices),
            _at(self.answers, indices),
            _at(self.shares, indices),
        )

    def of_decision(self, decision: int) -> Split:
        """Return the rows with an answer to a decision, by its index, with that answer as their label.

        Where the answer is a share of each label, the label with the largest share counts.
        """
        rows = [row for row, answers in enumerate(self.answers) if answers[decision] is not None]
        found = [self.answers[row][decision] for row in rows]
        labels = tuple(label for one in found if (label := certain_answer(one)) is not None)
        size = max((len(one) for one in found if isinstance(one, tuple)), default=0)
        shares = tuple(
            one if isinstance(one, tuple) else one_hot(label, size) for one, label in zip(found, labels, strict=True)
        )
        return Split(self.name, _at(self.texts, rows), labels, _at(self.weights, rows), shares=shares if size else ())

    def counts(self, labels: tuple[str, ...]) -> dict[str, int]:
        """Return the number of rows of each label, in the order of ``labels``; of shares the largest counts."""
        counts = Counter(self.labels)
        return {label: counts[index] for index, label in enumerate(labels)}

    def label_rows(self, labels: tuple[str, ...]) -> dict[str, float]:
        """Return the number of rows of each label, in the order of ``labels``; where rows have shares, their sum."""
        if not self.shares:
            return {label: float(rows) for label, rows in self.counts(labels).items()}
        return {label: sum(column) for label, column in zip(labels, zip(*self.shares, strict=True), strict=True)}

    def fingerprint(self) -> str:
        """Return the SHA-256 of all texts, labels and answers in order, which is equal for equal rows only."""
        digest = hashlib.sha256()
        for text, label in zip(self.texts, self.labels, strict=True):
            raw = text.encode()
            digest.update(f"{label}:{len(raw)}:".encode() + raw)
        for further in (self.answers, self.shares):
            digest.update(repr(further).encode() if further else b"")
        return digest.hexdigest()


def certain_answer(answer: Answer) -> int | None:
    """Return the label of an answer, that with the largest share where it has shares; None for a missing answer."""
    return answer.index(max(answer)) if isinstance(answer, tuple) else answer


def _at(column: tuple[T, ...], rows: Sequence[int]) -> tuple[T, ...]:
    """Return the cells of a column at ``rows``; a column that a split does not have stays empty."""
    return tuple(column[row] for row in rows) if column else ()


def join_soft(hard: Split, soft: Split) -> Split:
    """Return the rows of ``hard``, whose labels are certain, and then those of ``soft``, all with shares."""
    size = len(soft.shares[0])
    shares = tuple(one_hot(label, size) for label in hard.labels)
    weights = (*hard.weights, *([1.0] * len(soft))) if hard.weights else ()
    return Split(hard.name, hard.texts + soft.texts, hard.labels + soft.labels, weights, shares=shares + soft.shares)


def one_hot(label: int, size: int) -> tuple[float, ...]:
    """Return the shares of ``size`` labels of which ``label`` is certain."""
    return tuple(float(index == label) for index in range(size))


@dataclass(frozen=True)
class DataReport:
    """The findings of the checks.

    Attributes:
        duplicates_in_train: training rows whose text occurs earlier in train.
        conflicting_duplicates: duplicates with another label than the first row with their text.
        leaked: for each evaluation split, the number of its texts that also occur in train.
        dropped_from_train: training rows that were dropped as leaks or duplicates.
        examples: lines that show a few of the texts found.
        empty: rows without a text or a label that were left out of all splits.
        doubled_spaces: for each label, the share of its training texts with two or more spaces in a row; with
            questions, for the labels of the decision in which these shares differ most.
        learned: for each evaluation split, the number of its texts that the model had learned before, where that is
            known.
    """

    duplicates_in_train: int = 0
    conflicting_duplicates: int = 0
    leaked: dict[str, int] = field(default_factory=dict)
    dropped_from_train: int = 0
    examples: tuple[str, ...] = ()
    doubled_spaces: dict[str, float] = field(default_factory=dict)
    empty: int = 0
    learned: dict[str, int] = field(default_factory=dict)


def evaluated_split(wanted: str, present: Collection[str]) -> str:
    """Return the split that ``evaluate.split`` means: "auto" is test where that is ``present``, else validation."""
    if wanted == "auto":
        return "test" if "test" in present else "validation"
    return wanted


@dataclass(frozen=True)
class Corpus:
    """The data of a run.

    Attributes:
        source: ``data.source`` of the recipe.
        revision: the commit or version that pins the content of the source; None if the source has neither.
        train, validation, test: the splits; None for a split that the source lacks.
        report: the findings of the checks.
        carved: names of the splits whose rows were taken out of train, because the source lacks them.
        soft: further texts to train on, with a probability for each label; None without ``data.soft_labels``.
    """

    source: str
    revision: str | None
    train: Split
    validation: Split | None
    test: Split | None
    report: DataReport
    carved: tuple[str, ...] = ()
    soft: Split | None = None

    @cached_property
    def trained(self) -> Split:
        """All rows to train on: those of train, then those with soft labels, as shares of each label."""
        return self.train if self.soft is None else join_soft(self.train, self.soft)

    @property
    def stored_splits(self) -> dict[str, Split]:
        """The splits that a run records, by name: those that the corpus has, and the texts with soft labels."""
        parts = (self.train, self.validation, self.test, self.soft)
        return {split.name: split for split in parts if split is not None}

    def describe_splits(self, evaluated: str) -> str:
        """Return how many rows each split has, where the rows come from, and that ``evaluated`` is measured."""
        name = self.split(evaluated).name
        rows = [
            f"{split.name} {len(split):,}"
            + (" (taken out of train)" if split.name in self.carved else "")
            + (", measured" if split.name == name else "")
            for split in self.stored_splits.values()
        ]
        if self.report.empty:
            rows.append(f"left out without text or label {self.report.empty:,}")
        return f"Rows of {self.source}: {'; '.join(rows)}"

    def split(self, name: str) -> Split:
        """Return the split called ``name``; for "auto" test where there is one, else validation.

        Raises:
            DataError: there is no such split.
        """
        splits = {"train": self.train, "validation": self.validation, "test": self.test}
        present = {key: split for key, split in splits.items() if split is not None}
        name = evaluated_split(name, present)
        if (split := present.get(name)) is None:
            names = ", ".join(present)
            raise DataError(
                f"{self.source}: has no {name} split (it has {names}); "
                f"set evaluate.split to one it has, or data.{name}_rows to take one from train"
            )
        return split
