"""The answers to one decision of a question, as arrays: what ``question_metrics`` measures.

N: rows of the evaluated split that have an answer to the decision. K: labels of the decision.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from whinchat.data.dataset import Answer, Split
from whinchat.evaluation.calibrator import Calibrator
from whinchat.evaluation.evaluate import EvaluationOutcome
from whinchat.evaluation.metrics import LabelScores
from whinchat.evaluation.results import Prediction
from whinchat.evaluation.scoring import label_probabilities
from whinchat.evaluation.simple_methods import SimpleAnswers

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class DecisionTruth:
    """The true answers to one decision on the N evaluated rows whose truth is known.

    Attributes:
        rows: indices of these rows in the evaluated split, rising, (N,).
        expected: true labels, (N,); of shares the label with the largest.
        shares: the true share of each label, (N, K); None where the truth is single labels.
    """

    rows: Ints
    expected: Ints
    shares: Floats | None = field(default=None, kw_only=True)

    @classmethod
    def of(cls, split: Split, decision: int, size: int) -> "DecisionTruth":
        """Return the true answers to a decision, by its index in ``Task.decisions``; ``size`` is K."""
        found = [(row, answers[decision]) for row, answers in enumerate(split.answers) if answers[decision] is not None]
        return cls(
            np.array([row for row, _ in found], dtype=np.int64),
            np.array(split.of_decision(decision).labels, dtype=np.int64),
            shares=_shares([answer for _, answer in found], size),
        )


@dataclass(frozen=True)
class DecisionAnswers(DecisionTruth):
    """How one decision is answered, before and after training, on the N evaluated rows whose truth is known.

    Attributes:
        before, after: uncalibrated scores before and after training.
        calibrated: scores with calibrated probabilities; None without a calibrator.
        unsure: whether each calibrated answer is below the threshold of the calibrator, (N,); None where there is no
            threshold.
        calibrator: the calibrator that is saved with the adapter; None for data without a validation split.
        fitted_on: split on which the calibrator was fitted; None without a calibrator.
        simple: the answers of simple methods.
    """

    before: LabelScores
    after: LabelScores
    calibrated: LabelScores | None = None
    unsure: NDArray[np.bool_] | None = None
    calibrator: Calibrator | None = None
    fitted_on: str | None = None
    simple: tuple[SimpleAnswers, ...] = ()

    @property
    def shipped(self) -> LabelScores:
        """Scores whose most probable label ``whinchat predict`` answers with."""
        return self.calibrated or self.after


def decision_answers(
    split: Split,
    decision: int,
    outcomes: tuple[EvaluationOutcome, EvaluationOutcome],
    calibrator: Calibrator | None,
    fitted_on: str | None,
    simple: Sequence[SimpleAnswers] = (),
) -> DecisionAnswers:
    """Gather the answers to one decision.

    Args:
        split: the evaluated rows with the answers to all decisions.
        decision: index of the decision in ``Task.decisions``.
        outcomes: the evaluations of ``split.of_decision(decision)`` before and after training; that after training has
            the calibrated probabilities which ``calibrate_and_analyze`` adds.
        calibrator: what that function returns.
        fitted_on: ``fitted_on`` of the reliability report that it returns; None without a report.
        simple: what ``answer_simply`` answers to the texts of ``split.of_decision(decision)``.

    Raises:
        ValueError: the evaluations have another number of rows than the split has answers to the decision.
    """
    before, after = outcomes
    known = sum(answers[decision] is not None for answers in split.answers)
    if not known == len(before.predictions) == len(after.predictions):
        raise ValueError(
            f"decision {decision}: {known} rows of {split.name} have an answer, but {len(before.predictions)} "
            f"were evaluated before training and {len(after.predictions)} after"
        )
    old, new = (uncalibrated_scores(outcome.predictions) for outcome in outcomes)
    truth = DecisionTruth.of(split, decision, old.probabilities.shape[1])
    calibrated = unsure = None
    if calibrator is not None:
        probabilities = np.array([prediction.probabilities for prediction in after.predictions], dtype=np.float64)
        calibrated = LabelScores(new.log_probs, probabilities)
        if calibrator.threshold is not None:
            unsure = np.array([prediction.unsure for prediction in after.predictions])
    return DecisionAnswers(
        rows=truth.rows,
        expected=truth.expected,
        before=old,
        after=new,
        calibrated=calibrated,
        unsure=unsure,
        shares=truth.shares,
        calibrator=calibrator,
        fitted_on=fitted_on,
        simple=tuple(simple),
    )


def uncalibrated_scores(predictions: Sequence[Prediction]) -> LabelScores:
    """Return the scores of ``predictions`` with probabilities of their own, (N, K)."""
    log_probs = np.array([prediction.log_probs for prediction in predictions])
    return LabelScores(log_probs, label_probabilities(log_probs))


def _shares(truth: Sequence[Answer], size: int) -> Floats | None:
    """The share of each label, (N, K); None where the truth is single labels."""
    if not any(isinstance(answer, tuple) for answer in truth):
        return None
    certain = np.eye(size)
    return np.array([answer if isinstance(answer, tuple) else certain[answer] for answer in truth], dtype=np.float64)
