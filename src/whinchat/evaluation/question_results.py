"""Frozen records of how the questions of a run are answered; ``questions.json`` holds one ``QuestionResult`` for each.

A question consists of one decision, or, for ``multi``, of one decision for each option. K: labels of a decision.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from whinchat.evaluation.question_metric_registry import QuestionMetric, headline
from whinchat.evaluation.results import BaselineName, Interval, ReliabilityBin, StoredMode
from whinchat.recipe.question import QuestionType


@dataclass(frozen=True)
class OptionMetrics:
    """How one option of a ``multi`` question is answered.

    Attributes:
        option: name of the option.
        rows: rows that say whether the option applies.
        support: rows to which the option applies.
        precision, recall, f1: of "applies"; None where the option applies to no row.
        interval: 95 % bootstrap interval of ``f1``.
    """

    option: str
    rows: int
    support: int
    precision: float | None
    recall: float | None
    f1: float | None
    interval: Interval | None


@dataclass(frozen=True)
class PrecisionRecallPoint:
    """Precision and recall of "yes" if every row with a probability of yes of ``threshold`` or more is answered yes."""

    recall: float
    precision: float
    threshold: float


@dataclass(frozen=True)
class QuestionMetrics:
    """One way of answering a question, measured on the evaluated rows that have an answer.

    Attributes:
        mode: ``score`` for uncalibrated scores, ``calibrated`` for the answers that ``whinchat predict`` gives.
        values: the metrics of the question's type by name (``question_metric_registry``); None where a metric is not
            defined, such as an AUC of rows of one class.
        intervals: 95 % bootstrap interval of each defined metric.
        ece, brier: expected calibration error and Brier score, of ``multi`` the mean over the options; None for answers
            without probabilities.
        cross_entropy: mean cross entropy of the probabilities against the shares of the labels, in nats; None where the
            truth is no shares.
        confusion: of all types but ``multi``: ``confusion[t][p]`` counts rows of true label t answered with label p.
        options: of ``multi``: each option.
        curve: of ``yes_no``: precision against recall, from the highest threshold to the lowest.
        bins: the bins of the reliability diagram; of ``multi``, of the answers to all options together.
    """

    mode: StoredMode
    values: Mapping[str, float | None]
    intervals: Mapping[str, Interval]
    ece: float | None = None
    brier: float | None = None
    cross_entropy: float | None = None
    confusion: tuple[tuple[int, ...], ...] = ()
    options: tuple[OptionMetrics, ...] = ()
    curve: tuple[PrecisionRecallPoint, ...] = ()
    bins: tuple[ReliabilityBin, ...] = ()


@dataclass(frozen=True)
class QuestionTest:
    """Answers of the trained classifier against other answers to the same rows.

    Attributes:
        metric: the headline metric of the question's type.
        gain: the metric of the classifier minus that of the other answers; None where it is not defined.
        interval: 95 % paired-bootstrap interval of the gain.
        fixed, broken: rows that only the classifier answers right, and only the other answers do. An answer to a
            ``multi`` question is right if all options are.
        mcnemar_p: p-value of the exact two-sided McNemar test on ``fixed`` and ``broken``.
    """

    metric: str
    gain: float | None
    interval: Interval | None
    fixed: int
    broken: int
    mcnemar_p: float


@dataclass(frozen=True)
class QuestionBaseline:
    """A simple method that was fitted to the training rows of each decision.

    ``settings`` are those that the method chose for itself, once for each decision; ``paired`` tests the answers that
    ``whinchat predict`` gives against those of the method.
    """

    name: BaselineName
    settings: tuple[str, ...]
    metrics: QuestionMetrics
    paired: QuestionTest


@dataclass(frozen=True)
class QuestionCalibration:
    """How the answers to a question are calibrated; a tuple has one value for each decision.

    Attributes:
        fitted_on: the split of the fit.
        fitted_rows: rows of the fit.
        cross_fitted: whether ``fitted_on`` is the evaluated split, so that each row is answered by a calibrator that
            was fitted on other rows.
        temperatures: divisors of the scores.
        thresholds: of ``yes_no`` and ``multi``: the calibrated probability of yes, before rare labels are favoured,
            above which the answer is yes. 0.5 where favouring the rarer answer gained nothing on the rows of the fit.
        unsure: share of the answers that are "unsure"; None where every text is answered. Of ``multi``, an answer is
            that to one option.
        sure_accuracy: share of right answers among the others; None where every text, or none, is answered.
    """

    fitted_on: str
    fitted_rows: tuple[int, ...]
    cross_fitted: bool
    temperatures: tuple[float, ...]
    thresholds: tuple[float, ...]
    unsure: float | None
    sure_accuracy: float | None = None


@dataclass(frozen=True)
class AnswerCounts:
    """The answers to a question in one split: its rows, those without an answer, and the rows of each option.

    Of shares the option with the largest counts. Of a ``multi`` question a row counts for every option that applies.
    """

    split: str
    rows: int
    missing: int
    counts: tuple[int, ...]


@dataclass(frozen=True)
class QuestionResult:
    """One question: what is asked, and how well the answers are before and after training.

    Attributes:
        name, type, options: of the question; ``options`` are its options or levels in the order of the recipe.
        split: the evaluated split.
        rows: evaluated rows with an answer to the question.
        missing: evaluated rows without one.
        incomplete: of a ``multi`` question, rows that say of some options only whether they apply. They count for these
            options, and not for subset accuracy.
        before, after: uncalibrated answers before and after training.
        calibrated: the calibrated answers after training; None for data without a validation split.
        paired: the answers that ``whinchat predict`` gives, tested against those before training.
        baselines: simple methods on the same rows.
        calibration: None for data without a validation split.
        data: the answers in each split.
    """

    name: str
    type: QuestionType
    options: tuple[str, ...]
    split: str
    rows: int
    missing: int
    incomplete: int
    before: QuestionMetrics
    after: QuestionMetrics
    calibrated: QuestionMetrics | None
    paired: QuestionTest
    baselines: tuple[QuestionBaseline, ...]
    calibration: QuestionCalibration | None
    data: tuple[AnswerCounts, ...]

    @property
    def shipped(self) -> QuestionMetrics:
        """Metrics of the answers that ``whinchat predict`` gives."""
        return self.calibrated or self.after

    @property
    def headline(self) -> QuestionMetric:
        """The metric by which the question is compared."""
        return headline(self.type)


@dataclass(frozen=True)
class QuestionEvaluation:
    """One question, and how well a trained classifier answers the texts of one evaluation.

    Attributes:
        name, type, options, rows, missing, incomplete: as for ``QuestionResult``.
        score: uncalibrated answers; None where no row has an answer to the question.
        calibrated: the answers that ``whinchat predict`` gives; also None for a classifier without calibration.
    """

    name: str
    type: QuestionType
    options: tuple[str, ...]
    rows: int
    missing: int
    incomplete: int
    score: QuestionMetrics | None
    calibrated: QuestionMetrics | None

    @property
    def shipped(self) -> QuestionMetrics | None:
        """Metrics of the answers that ``whinchat predict`` gives."""
        return self.calibrated or self.score


QuestionsEvidence = tuple[QuestionResult, ...]
