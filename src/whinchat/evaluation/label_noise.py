"""Which labels of the data are probably wrong: confident learning on probabilities of rows the model was not shown.

N: rows. K: labels.

Source: Northcutt, Jiang and Chuang 2021, Confident learning: estimating uncertainty in dataset labels, JAIR 70.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# A mean of equal numbers can come out above each of them.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class LabelNoise:
    """What confident learning finds.

    Attributes:
        thresholds: mean self-confidence of each label: its mean probability among the rows that carry it, (K,).
        suspected: the label that each row probably has, its own where nothing speaks against it, (N,).
        margins: highest probability of another label minus that of the label given, -1 to 1, (N,).
        counts: the confident joint: rows given label i and confidently of label j, (K, K).
        estimated: the same for all rows, those counted nowhere included: each row adds up to the rows given i, (K, K).
    """

    thresholds: Floats
    suspected: Ints
    margins: Floats
    counts: Ints
    estimated: Floats

    @property
    def ranked(self) -> list[int]:
        """Rows, those whose label the model disagrees with most first; ties in the order of the data."""
        order: list[int] = np.argsort(-self.margins, kind="stable").tolist()
        return order


def find_label_noise(probabilities: Floats, given: Ints) -> LabelNoise:
    """Judge the labels ``given`` (N,) by out-of-fold ``probabilities`` (N, K).

    A row counts as confidently of a label if that label's probability reaches the label's mean self-confidence, and as
    of the most probable where several do. Comparing each label with its own mean makes up for labels that the model
    is generally more, or less, sure of.

    Every label must be given to some row.

    Source: section 3.1, equations 1 and 2 for the counts, 3 for their calibration.
    """
    size = probabilities.shape[1]
    thresholds = np.array([probabilities[given == label, label].mean() for label in range(size)])
    reached = probabilities >= thresholds - _ROUNDING  # (N, K)
    confident = reached.any(axis=1)
    likeliest = np.where(reached, probabilities, -1.0).argmax(axis=1)
    counts = np.zeros((size, size), dtype=np.int64)
    np.add.at(counts, (given[confident], likeliest[confident]), 1)
    rows = np.bincount(given, minlength=size)
    # No row of counts is empty: some row of each label reaches that label's mean.
    estimated = counts / counts.sum(axis=1, keepdims=True) * rows[:, None]
    return LabelNoise(
        thresholds, np.where(confident, likeliest, given), _margins(probabilities, given), counts, estimated
    )


def _margins(probabilities: Floats, given: Ints) -> Floats:
    at = np.arange(len(given))
    others = probabilities.copy()
    others[at, given] = -1.0
    margins: Floats = others.max(axis=1) - probabilities[at, given]
    return margins


@dataclass(frozen=True)
class LabelPair:
    """Rows given one label that are probably of another: as counted, and as estimated for all rows."""

    given: str
    suspected: str
    rows: int
    estimated: float


def label_pairs(noise: LabelNoise, labels: Sequence[str]) -> tuple[LabelPair, ...]:
    """Every pair that has rows, the most frequent first."""
    pairs = [
        LabelPair(labels[given], labels[other], int(noise.counts[given, other]), float(noise.estimated[given, other]))
        for given in range(len(labels))
        for other in range(len(labels))
        if given != other and noise.counts[given, other]
    ]
    return tuple(sorted(pairs, key=lambda pair: -pair.rows))


@dataclass(frozen=True)
class ReviewedRow:
    """A row of train and what a model that was not shown it makes of it.

    Attributes:
        row: its row in the train split of the source, from 0.
        text, label: as they are there.
        model_label: the label with the highest probability.
        label_probability, model_probability: of ``label`` and of ``model_label``.
        margin: highest probability of another label minus ``label_probability``; above 0 the model disagrees.
        suspected: the label that confident learning takes it for; None where that is its own.
    """

    row: int
    text: str
    label: str
    model_label: str
    label_probability: float
    model_probability: float
    margin: float
    suspected: str | None


@dataclass(frozen=True)
class FoldRecord:
    """One fold: its rows, and how they were judged.

    ``seconds`` for training and scoring is None where a kill divided them: part of the time is not the time.
    """

    rows: int
    fingerprint: str
    trained_on: int
    steps: int
    seconds: float | None


@dataclass(frozen=True)
class Review:
    """What was found about the labels of train.

    Attributes:
        whinchat_version, model_source, model_commit, data_source, data_revision: what it was made with.
        train_fingerprint: of the rows reviewed, in the order they were trained in.
        rows: how many.
        labels: their order is that of ``thresholds``.
        folds: each in turn.
        temperature: fitted on all out-of-fold scores.
        accuracy, macro_f1: of the label with the highest probability, out of fold, against the labels given.
        thresholds: mean self-confidence of each label.
        suspects: rows that confident learning counts as of another label.
        estimated_errors: label errors among all rows, as the calibrated joint estimates them.
        pairs: which labels they are given, and which they probably have.
        seconds: of all folds; None where a kill divided one.
    """

    whinchat_version: str
    model_source: str
    model_commit: str | None
    data_source: str
    data_revision: str | None
    train_fingerprint: str
    rows: int
    labels: tuple[str, ...]
    folds: tuple[FoldRecord, ...]
    temperature: float
    accuracy: float
    macro_f1: float
    thresholds: tuple[float, ...]
    suspects: int
    estimated_errors: float
    pairs: tuple[LabelPair, ...]
    seconds: float | None


def reviewed_rows(
    noise: LabelNoise,
    probabilities: Floats,
    given: Ints,
    texts: Sequence[str],
    rows: Sequence[int],
    labels: Sequence[str],
) -> tuple[ReviewedRow, ...]:
    """Every row, those whose label the model disagrees with most first.

    ``probabilities`` (N, K) and ``given`` (N,) are those that ``noise`` was found in; ``rows`` (N,) name the rows.
    """
    top = probabilities.argmax(axis=1)
    return tuple(
        ReviewedRow(
            row=rows[at],
            text=texts[at],
            label=labels[given[at]],
            model_label=labels[top[at]],
            label_probability=float(probabilities[at, given[at]]),
            model_probability=float(probabilities[at, top[at]]),
            margin=float(noise.margins[at]),
            suspected=None if noise.suspected[at] == given[at] else labels[noise.suspected[at]],
        )
        for at in noise.ranked
    )
