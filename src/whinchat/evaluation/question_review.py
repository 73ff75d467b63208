"""The findings of a review of the answers to questions: frozen records, and the reviewed answers in their order.

N: rows of a decision. K: labels of a decision.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from whinchat.evaluation.label_noise import FoldRecord, LabelPair, ReviewedRow
from whinchat.recipe.question import Decision, QuestionType


@dataclass(frozen=True)
class ReviewedAnswer:
    """The answer to a question in a training row, and what a model says that was not trained on the row.

    Attributes:
        row, text: as in ``ReviewedRow``.
        question: name of the question.
        option: of a ``multi`` question, the option that applies or not; None for the other types.
        label: the given answer; of ``multi`` yes or no.
        model_label, label_probability, model_probability, margin, suspected: as in ``ReviewedRow``.
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
        decisions: the question, or each option of a ``multi`` question.
    """

    name: str
    type: QuestionType
    answers: int
    suspects: int
    estimated_errors: float
    accuracy: float | None
    decisions: tuple[DecisionReview, ...]

    @classmethod
    def of_decisions(cls, name: str, kind: QuestionType, decisions: Sequence[DecisionReview]) -> "QuestionReview":
        """Return the findings about the question called ``name`` from those about its decisions."""
        answers = sum(one.rows for one in decisions)
        right = sum(one.rows * (one.accuracy or 0.0) for one in decisions)
        return cls(
            name,
            kind,
            answers,
            sum(one.suspects for one in decisions),
            sum(one.estimated_errors for one in decisions),
            right / answers if answers else None,
            tuple(decisions),
        )


@dataclass(frozen=True)
class QuestionsReview:
    """The findings of a review of the answers in the training split.

    Attributes:
        whinchat_version, model_source, model_commit, data_source, data_revision, train_fingerprint, folds, seconds: as
            in ``Review``.
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


def reviewed_answers(decision: Decision, rows: Sequence[ReviewedRow]) -> list[ReviewedAnswer]:
    """Return the reviewed rows of a decision with the names of its question and its option."""
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
            row.suspected,
        )
        for row in rows
    ]
