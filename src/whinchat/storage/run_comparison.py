"""The record of a comparison of several runs."""

from dataclasses import asdict, dataclass
from typing import Any

from whinchat.evaluation.results import Interval, PairedTest


@dataclass(frozen=True)
class ComparisonRow:
    """The metrics of one run, with label scoring unless the name says otherwise; None if not measured.

    Attributes:
        measured_on: number of the set of evaluated rows, from 1; only runs with equal numbers compare fairly.
        rows: number of evaluated rows.
        train_rows: number of training rows.
        learning_rate: highest learning rate of the training.
        other_metrics: every registered metric but macro-F1, after training; in JSON its keys stand one level up.
        generate_macro_f1: macro-F1 with free generation, where the whole answer must be a label.
        invalid_rate: share of generated answers that are not a label.
        first_word_macro_f1: macro-F1 with free generation, where the label that occurs first in the answer counts.
    """

    name: str
    measured_on: int
    split: str
    rows: int
    model: str
    method: str
    load_in: str
    train_rows: int | None
    learning_rate: float
    trainable_parameters: int
    before_macro_f1: float
    before_interval: Interval | None
    after_macro_f1: float
    after_interval: Interval | None
    other_metrics: dict[str, float]
    generate_macro_f1: float | None
    invalid_rate: float | None
    first_word_macro_f1: float | None
    train_seconds: float | None
    peak_memory_bytes: int


@dataclass(frozen=True)
class RunPair:
    """A paired test of two runs on the same rows, ``second`` against ``first``, with label scoring."""

    first: str
    second: str
    paired: PairedTest


@dataclass(frozen=True)
class RunComparison:
    """A comparison of runs.

    Attributes:
        rows: one row for each run, in the order of the arguments.
        pairs: the paired tests of all runs that were evaluated on the same rows.
        notes: what a reader must know to compare the runs fairly.
    """

    rows: tuple[ComparisonRow, ...]
    pairs: tuple[RunPair, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        record = asdict(self)
        record["rows"] = [_flat(row) for row in record["rows"]]
        return record


@dataclass(frozen=True)
class StoredComparison:
    """The latest comparison that a run took part in; ``run`` is its name there."""

    run: str
    comparison: RunComparison


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """The row with the entries of ``other_metrics`` in place of that key."""
    flat: dict[str, Any] = {}
    for key, value in row.items():
        flat |= value if key == "other_metrics" else {key: value}
    return flat
