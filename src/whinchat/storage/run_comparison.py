"""The record of a comparison of several runs."""

from dataclasses import asdict, dataclass
from typing import Any

from whinchat.evaluation.results import Interval, PairedTest


@dataclass(frozen=True)
class ComparisonRow:
    """The metrics of one run; None if not measured.

    Before training, they are those of label scoring; after training, those of the answers that ``whinchat predict``
    gives, unless the name says otherwise.

    Attributes:
        measured_on: number of the set of evaluated rows, from 1; only runs with equal numbers compare fairly.
        rows: number of evaluated rows.
        train_rows: number of training rows.
        learning_rate: highest learning rate of the training.
        seed: ``train.seed``.
        score_macro_f1: macro-F1 of label scoring after training; None in records of version 0.1.0, whose metrics after
            training are all those of label scoring.
        other_metrics: every registered metric but macro-F1, after training; in JSON its keys stand one level up.
        generate_macro_f1: macro-F1 with free generation, where the whole answer must be a label.
        invalid_rate: share of generated answers that are not a label.
        generate_rows: number of rows that were answered freely; None where none were, and in records of earlier
            versions, which answered all rows.
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
    seed: int | None = None
    score_macro_f1: float | None = None
    generate_rows: int | None = None


@dataclass(frozen=True)
class DifferingSetting:
    """A key of the recipe that differs between runs, and its value in each run, in the order of the rows."""

    key: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class SeedGroup:
    """Runs that differ in nothing but ``train.seed`` and their names, measured on the same rows.

    Attributes:
        runs, seeds: name and seed of each run.
        means, deviations: mean and sample standard deviation of each registered metric, by name.
    """

    runs: tuple[str, ...]
    seeds: tuple[int, ...]
    means: dict[str, float]
    deviations: dict[str, float]


@dataclass(frozen=True)
class RunPair:
    """A paired test of the answers of two runs to the same rows, ``second`` against ``first``."""

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
        settings: the keys of the recipes that differ.
        seed_groups: runs of one recipe with several seeds.
    """

    rows: tuple[ComparisonRow, ...]
    pairs: tuple[RunPair, ...]
    notes: tuple[str, ...]
    settings: tuple[DifferingSetting, ...] = ()
    seed_groups: tuple[SeedGroup, ...] = ()

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
