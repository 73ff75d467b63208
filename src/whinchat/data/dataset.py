"""What the data stage hands on: frozen splits, and what was found while checking them."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field

from whinchat.errors import DataError


@dataclass(frozen=True)
class Split:
    """Texts and their labels, in the order of the source.

    ``labels[i]`` indexes ``task.labels``.
    """

    name: str
    texts: tuple[str, ...]
    labels: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.texts) != len(self.labels):
            raise DataError(f"{self.name}: {len(self.texts)} texts but {len(self.labels)} labels; they must pair up")

    def __len__(self) -> int:
        return len(self.texts)

    def head(self, rows: int | None) -> Split:
        """The first ``rows`` rows; all of them for ``None``."""
        return Split(self.name, self.texts[:rows], self.labels[:rows])

    def take(self, indices: list[int]) -> Split:
        """The rows at ``indices``, in that order."""
        return Split(self.name, tuple(self.texts[i] for i in indices), tuple(self.labels[i] for i in indices))

    def counts(self, labels: tuple[str, ...]) -> dict[str, int]:
        """Rows of each label, in label order."""
        found = Counter(self.labels)
        return {label: found[index] for index, label in enumerate(labels)}

    def fingerprint(self) -> str:
        """SHA-256 over every text and label in order: equal exactly when the rows are."""
        digest = hashlib.sha256()
        for text, label in zip(self.texts, self.labels, strict=True):
            raw = text.encode()
            digest.update(f"{label}:{len(raw)}:".encode() + raw)
        return digest.hexdigest()


@dataclass(frozen=True)
class DataReport:
    """What the checks found. Counts are rows; nothing here is dropped silently.

    ``leaked`` names each evaluation split and how many of its texts also stood in train, ``doubled_spaces`` each label
    and the share of its training texts with two or more spaces in a row.
    """

    duplicates_in_train: int = 0
    conflicting_duplicates: int = 0
    leaked: dict[str, int] = field(default_factory=dict)
    dropped_from_train: int = 0
    examples: tuple[str, ...] = ()
    doubled_spaces: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Corpus:
    """Everything a run needs to know about its data."""

    source: str
    revision: str | None
    train: Split
    validation: Split | None
    test: Split | None
    report: DataReport

    def split(self, name: str) -> Split:
        """The evaluation split called ``name``.

        Raises:
            DataError: the source has no such split.
        """
        found = {"train": self.train, "validation": self.validation, "test": self.test}
        if (split := found.get(name)) is None:
            have = ", ".join(key for key, value in found.items() if value is not None)
            raise DataError(
                f"{self.source}: has no {name} split (it has {have}); "
                f"set evaluate.split to one it has, or data.{name}_rows to take one from train"
            )
        return split
