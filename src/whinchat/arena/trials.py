"""Frozen records of an arena: what one cell is told, and what it found.

K: labels. N: evaluated rows.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from whinchat.arena.spec import ContestantKind, Method
from whinchat.errors import RunError
from whinchat.evaluation.results import Metrics
from whinchat.recipe.schema import Recipe
from whinchat.storage.json_records import from_json, to_json


@dataclass(frozen=True)
class Trial:
    """One method on one training set: the first ``rows`` rows that ``seed`` draws."""

    method: str
    rows: int
    seed: int

    @property
    def stem(self) -> str:
        """Name of its files."""
        return f"{self.method}-{self.rows}-{self.seed}"

    def __str__(self) -> str:
        return f"{self.method}, {self.rows:,} rows, seed {self.seed}"


@dataclass(frozen=True)
class TrialJob:
    """All that a cell's process needs; ``recipe`` is the method's, ``cell.seed`` its ``train.seed``."""

    cell: Trial
    method: Method
    recipe: Recipe

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "cell": asdict(self.cell),
            "method": self.method.model_dump(mode="json"),
            "recipe": self.recipe.model_dump(mode="json"),
        }

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Self:
        """The job that ``to_dict`` wrote."""
        return cls(
            Trial(**record["cell"]), Method.model_validate(record["method"]), Recipe.model_validate(record["recipe"])
        )


@dataclass(frozen=True)
class Cost:
    """What a cell took.

    Attributes:
        load_seconds: until the method stood ready to be trained, downloads included.
        fit_seconds: of training, from texts to a classifier, the search for settings included.
        answer_seconds: for all evaluated texts.
        peak_memory_bytes: largest resident size of the cell's process.
        peak_device_bytes: largest allocation on the accelerator; None on a CPU.
        parameters, trainable_parameters: of the fitted model.
    """

    load_seconds: float
    fit_seconds: float
    answer_seconds: float
    peak_memory_bytes: int
    peak_device_bytes: int | None
    parameters: int
    trainable_parameters: int


@dataclass(frozen=True)
class TrialResult:
    """What a cell that ended well found.

    Attributes:
        measured: its figures on the evaluated rows.
        expected, predicted: the labels behind them, (N,).
        cost: what it took.
        rows_used: training rows that it read; a few-shot prompt reads fewer than it could.
        evaluated_on, trained_on: fingerprints of the rows; methods compare fairly only where they are equal.
        machine: processor, device and cores.
        versions: of the libraries that can change a result.
        notes: what the method chose for itself, such as C of a logistic regression.
    """

    measured: Metrics
    expected: tuple[int, ...]
    predicted: tuple[int, ...]
    cost: Cost
    rows_used: int
    evaluated_on: str
    trained_on: str
    machine: dict[str, str]
    versions: dict[str, str]
    notes: dict[str, str]


@dataclass(frozen=True)
class TrialRecord:
    """One cell that was run: ``found``, or ``error`` in one line."""

    job: TrialJob
    found: TrialResult | None
    error: str | None = None

    @property
    def cell(self) -> Trial:
        """Which cell."""
        return self.job.cell

    @property
    def kind(self) -> ContestantKind:
        """Of its method."""
        return self.job.method.kind

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; the labels of the rows as one string, for they are many."""
        found = None
        if self.found is not None:
            labels = {name: " ".join(map(str, getattr(self.found, name))) for name in ("expected", "predicted")}
            found = {**asdict(self.found), "measured": to_json(self.found.measured)} | labels
        return {"job": self.job.to_dict(), "found": found, "error": self.error}

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Self:
        """The record that ``to_dict`` wrote."""
        found = record["found"]
        if found is not None:
            labels = {name: tuple(map(int, found[name].split())) for name in ("expected", "predicted")}
            parts = {"measured": from_json(Metrics, found["measured"]), "cost": Cost(**found["cost"])}
            found = TrialResult(**{**found, **labels, **parts})
        return cls(TrialJob.from_dict(record["job"]), found, record["error"])


def read_record(path: Path) -> TrialRecord:
    """The record in ``path``.

    Raises:
        RunError: it is not one that this version of whinchat wrote.
    """
    try:
        return TrialRecord.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError, AttributeError) as fault:
        reason = str(fault).splitlines()[0]
        raise RunError(f"{path}: not a cell as this version of whinchat writes it ({reason}); delete it") from None
