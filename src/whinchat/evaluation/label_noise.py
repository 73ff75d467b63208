"""Find probable label errors by confident learning, from the probabilities of models that were not trained on the rows.

N: rows. K: labels. The given label of a row is its label in the data, right or wrong.

Source: Northcutt, Jiang and Chuang 2021, Confident learning: estimating uncertainty in dataset labels, JAIR 70.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Rounding can put the mean of equal numbers above the numbers themselves.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class LabelNoise:
    """The result of confident learning.

    Attributes:
        thresholds: mean probability of each label among the rows that are given the label, (K,).
        suspected: probable true label of each row; the given label where nothing speaks against it, (N,).
        margins: highest probability of another label minus that of the given label, -1 to 1, (N,).
        counts: the confident joint: rows given label i and confidently of label j, (K, K).
        estimated: ``counts`` scaled to all rows, so that row i sums to the number of rows given label i, (K, K).
    """

    thresholds: Floats
    suspected: Ints
    margins: Floats
    counts: Ints
    estimated: Floats

    @property
    def ranked(self) -> list[int]:
        """Row indices by falling margin: strongest disagreement first, ties in the order of the data."""
        order: list[int] = np.argsort(-self.margins, kind="stable").tolist()
        return order


def find_label_noise(probabilities: Floats, given: Ints) -> LabelNoise:
    """Estimate which given labels are wrong.

    A row is confidently of a label when the label's probability reaches its threshold: the mean probability of that
    label among the rows that are given it. Where several labels qualify, the most probable one counts. A threshold
    for each label makes up for labels of which the model is generally more, or less, sure.

    Args:
        probabilities: out-of-fold label probabilities, normalized over the labels, (N, K).
        given: given labels, (N,). A label that does not occur has a threshold of infinity, and no row is suspected of
            it.

    Source: section 3.1, equations 1 and 2 for the counts, 3 for their calibration.
    """
    size = probabilities.shape[1]
    rows = np.bincount(given, minlength=size)
    thresholds = np.array(
        [probabilities[given == label, label].mean() if rows[label] else np.inf for label in range(size)]
    )
    reached = probabilities >= thresholds - _ROUNDING  # (N, K)
    confident = reached.any(axis=1)
    likeliest = np.where(reached, probabilities, -1.0).argmax(axis=1)
    counts = np.zeros((size, size), dtype=np.int64)
    np.add.at(counts, (given[confident], likeliest[confident]), 1)
    # No row of counts is empty where the label occurs: some row of each label reaches that label's mean.
    estimated = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1) * rows[:, None]
    others = probabilities.copy()
    others[np.arange(len(given)), given] = -1.0
    margins = others.max(axis=1) - probabilities[np.arange(len(given)), given]
    return LabelNoise(thresholds, np.where(confident, likeliest, given), margins, counts, estimated)


@dataclass(frozen=True)
class LabelPair:
    """Rows given one label that are probably of another: counted by the confident joint, and estimated for all rows."""

    given: str
    suspected: str
    rows: int
    estimated: float


def label_pairs(noise: LabelNoise, labels: Sequence[str]) -> tuple[LabelPair, ...]:
    """Return every pair of labels with at least one such row, the most frequent pair first."""
    pairs = [
        LabelPair(labels[given], labels[other], int(noise.counts[given, other]), float(noise.estimated[given, other]))
        for given in range(len(labels))
        for other in range(len(labels))
        if given != other and noise.counts[given, other]
    ]
    return tuple(sorted(pairs, key=lambda pair: -pair.rows))


@dataclass(frozen=True)
class ReviewedRow:
    """A training row and its prediction by a model that was not trained on the row.

    Attributes:
        row: index of the row in the train split of the source, from 0.
        text, label: text and given label.
        model_label: the label with the highest probability.
        label_probability, model_probability: probability of ``label`` and of ``model_label``.
        margin: highest probability of another label minus ``label_probability``; above 0 the model disagrees.
        suspected: probable true label by confident learning; None if this is the given label.
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
    """One fold of a review, whose rows were scored by a model that was trained on the other folds.

    Attributes:
        rows, fingerprint: number and fingerprint of the fold's rows.
        trained_on: number of training rows of the other folds.
        steps: optimizer steps of that training.
        seconds: wall-clock time of training and scoring; None for a fold that was interrupted and resumed.
    """

    rows: int
    fingerprint: str
    trained_on: int
    steps: int
    seconds: float | None


@dataclass(frozen=True)
class Review:
    """The findings of a review of the training labels.

    Attributes:
        whinchat_version, model_source, model_commit, data_source, data_revision: versions behind the review.
        train_fingerprint: fingerprint of the reviewed rows, in the order of training.
        rows: number of reviewed rows.
        labels: label names, in the order of ``thresholds``.
        folds: one record for each fold.
        temperature: temperature fitted on all out-of-fold scores.
        accuracy, macro_f1: of the most probable label, out of fold, measured against the given labels.
        thresholds: mean probability of each label among the rows that are given the label.
        suspects: number of rows that the confident joint counts under another label.
        estimated_errors: estimated number of label errors among all rows.
        pairs: given and suspected label of the suspects.
        seconds: wall-clock time of all folds; None when a fold was interrupted and resumed.
        learned_texts: number of reviewed texts that the model had learned before the review, so that it agrees too
            readily with their labels; None where that is not known.
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
    learned_texts: int | None = None


def reviewed_rows(
    noise: LabelNoise,
    probabilities: Floats,
    given: Ints,
    texts: Sequence[str],
    rows: Sequence[int],
    labels: Sequence[str],
) -> tuple[ReviewedRow, ...]:
    """Return every row, strongest disagreement first.

    Args:
        noise: the result of ``find_label_noise``.
        probabilities: its probabilities, (N, K).
        given: its given labels, (N,).
        texts: N texts.
        rows: index of each row in the train split of the source, (N,).
        labels: K label names.
    """
    top = probabilities.argmax(axis=1)
    return tuple(
        ReviewedRow(
            row=rows[index],
            text=texts[index],
            label=labels[given[index]],
            model_label=labels[top[index]],
            label_probability=float(probabilities[index, given[index]]),
            model_probability=float(probabilities[index, top[index]]),
            margin=float(noise.margins[index]),
            suspected=None if noise.suspected[index] == given[index] else labels[noise.suspected[index]],
        )
        for index in noise.ranked
    )
