"""The findings of a review of the answers to questions: frozen records, and the reviewed answers in their order.

N: rows of a decision. K: labels of a decision.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from whinchat.evaluation.label_noise import FoldRecord, LabelNoise, LabelPair, ReviewedRow
from whinchat.recipe.question import Decision, QuestionType

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class ReviewedAnswer:
    """The answer to a question in a training row, and what a model says that was not trained on the row.

    Attributes:
        row, text: as in ``ReviewedRow``.
        question: name of the question.
        option: of a ``multi`` question, the option that applies or not; None for the other types.
        label: the given answer; of ``multi`` yes or no.
        model_label, label_probability, model_probability, margin, suspected: as in ``ReviewedRow``.
        disagreement: what the answers are ordered by; see ``disagreements``.
    """

    row: int
    text: str
    question: str
    option: str | None
    label: str
    model_label: str
    label_probability: float
    model_probability: float
    margin: float
    disagreement: float
    suspected: str | None


@dataclass(frozen=True)
class DecisionReview:
    """The findings about one decision: a question, or one option of a ``multi`` question.

    Attributes:
        option: of a ``multi`` question, the option; None for the other types.
        labels: the labels of the decision, in the order of ``thresholds``.
        rows: reviewed rows: those with a single answer.
        missing: rows without an answer.
        shares: rows whose answer is a share for each label. They are not reviewed, because no single label of theirs
            is given.
        temperature: temperature fitted on the out-of-fold scores; None where no row is reviewed.
        accuracy, macro_f1: of the most probable label, out of fold, against the given labels; None likewise.
        most_frequent: share of the most frequent given label, which is the accuracy of a model that knows nothing; None
            likewise.
        thresholds: mean probability of each label among the rows that are given the label; None for a label without
            such rows, of which no row is suspected.
        suspects: number of rows that the confident joint counts under another label.
        estimated_errors: estimated number of wrong labels among all reviewed rows.
        pairs: given and suspected label of the suspects.
    """

    option: str | None
    labels: tuple[str, ...]
    rows: int
    missing: int
    shares: int
    temperature: float | None
    accuracy: float | None
    macro_f1: float | None
    most_frequent: float | None
    thresholds: tuple[float | None, ...]
    suspects: int
    estimated_errors: float
    pairs: tuple[LabelPair, ...]


@dataclass(frozen=True)
class QuestionReview:
    """The findings about one question; the counts of a ``multi`` question are sums over its options.

    Attributes:
        name, type: of the question.
        answers: number of reviewed answers.
        suspects, estimated_errors: of these answers.
        accuracy: share of these answers that the most probable label equals, out of fold; None where there are none.
        most_frequent: what the accuracy would be if each decision were answered by its most frequent answer; None
            likewise.
        decisions: the question, or each option of a ``multi`` question.
    """

    name: str
    type: QuestionType
    answers: int
    suspects: int
    estimated_errors: float
    accuracy: float | None
    most_frequent: float | None
    decisions: tuple[DecisionReview, ...]

    @classmethod
    def of_decisions(cls, name: str, kind: QuestionType, decisions: Sequence[DecisionReview]) -> "QuestionReview":
        """Return the findings about the question called ``name`` from those about its decisions."""
        answers = sum(one.rows for one in decisions)

        def mean(shares: Iterable[float | None]) -> float | None:
            weighted = (one.rows * (share or 0.0) for one, share in zip(decisions, shares, strict=True))
            return sum(weighted) / answers if answers else None

        return cls(
            name,
            kind,
            answers,
            sum(one.suspects for one in decisions),
            sum(one.estimated_errors for one in decisions),
            mean(one.accuracy for one in decisions),
            mean(one.most_frequent for one in decisions),
            tuple(decisions),
        )


@dataclass(frozen=True)
class QuestionsReview:
    """The findings of a review of the answers in the training split.

    Attributes:
        whinchat_version, model_source, model_commit, data_source, data_revision, train_fingerprint, folds, seconds,
            learned_texts: as in ``Review``.
        rows: number of training rows.
        questions: the findings about each question, in the order of the recipe.
    """

    whinchat_version: str
    model_source: str
    model_commit: str | None
    data_source: str
    data_revision: str | None
    train_fingerprint: str
    rows: int
    folds: tuple[FoldRecord, ...]
    questions: tuple[QuestionReview, ...]
    seconds: float | None
    learned_texts: int | None = None


def disagreements(noise: LabelNoise, probabilities: Floats, given: Ints) -> Floats:
    """Return how strongly the models disagree with each given label of a decision, (N,).

    It is the margin of the probabilities after the threshold of each label is subtracted. So a label that the models
    always find improbable, because it is rare or they have not learned the decision, does not outweigh surer findings
    about other decisions.

    Args:
        noise: the result of ``find_label_noise``.
        probabilities, given: its arguments, (N, K) and (N,).

    Source: the adjustment by class thresholds of Kuan and Mueller 2022, Model-agnostic label quality scoring to detect
    real-world label errors, without normalizing anew.
    """
    surplus = probabilities - noise.thresholds  # (N, K); minus infinity for a label that is never given
    rows = np.arange(len(given))
    own = surplus[rows, given]
    surplus[rows, given] = -np.inf
    others = surplus.max(axis=1)
    # Where only one label is ever given, nothing speaks for another.
    return np.where(np.isfinite(others), others - own, -1.0)


def reviewed_answers(
    decision: Decision, rows: Sequence[ReviewedRow], disagreement: Sequence[float]
) -> list[ReviewedAnswer]:
    """Return the reviewed rows of a decision with the names of its question and its option.

    Args:
        decision: the decision.
        rows: the rows, N.
        disagreement: that of each row; see ``disagreements``.
    """
    return [
        ReviewedAnswer(
            row.row,
            row.text,
            decision.question,
            decision.option,
            row.label,
            row.model_label,
            row.label_probability,
            row.model_probability,
            row.margin,
            strength,
            row.suspected,
        )
        for row, strength in zip(rows, disagreement, strict=True)
    ]
