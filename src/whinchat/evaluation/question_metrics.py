"""Measure how a question is answered, by the metrics of its type.

N: rows. K: labels of a decision. D: decisions of a question, one for each option of ``multi``, otherwise one.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn.metrics import precision_recall_curve, precision_recall_fscore_support

from whinchat.data.dataset import Split
from whinchat.errors import DataError
from whinchat.evaluation.matrix_metrics import MATRIX_METRICS, yes_f1
from whinchat.evaluation.metrics import (
    LabelScores,
    calibration_metrics,
    count_answers,
    intervals_of_matrix,
    paired_difference,
)
from whinchat.evaluation.question_answers import DecisionAnswers, DecisionTruth
from whinchat.evaluation.question_metric_registry import QUESTION_METRICS, headline
from whinchat.evaluation.question_results import (
    AnswerCounts,
    OptionMetrics,
    PrecisionRecallPoint,
    QuestionBaseline,
    QuestionCalibration,
    QuestionMetrics,
    QuestionResult,
    QuestionTest,
)
from whinchat.evaluation.results import BaselineName, Interval, Mode, ReliabilityBin
from whinchat.evaluation.row_resampling import (
    OptionAnswers,
    measure_options,
    measure_ranking,
    measure_rows,
    option_gain,
)
from whinchat.recipe.question import QuestionType
from whinchat.recipe.schema import EvaluateConfig
from whinchat.recipe.task import Task

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_MOST_CURVE_POINTS = 100


def measure_question(
    task: Task,
    name: str,
    splits: Sequence[Split],
    evaluated: Split,
    decisions: Sequence[DecisionAnswers],
    settings: EvaluateConfig,
) -> QuestionResult:
    """Measure the answers to a question before and after training, and those of simple methods.

    Args:
        task: the task of the recipe.
        name: name of the question, whose type chooses the metrics.
        splits: the splits of the data, with the answers to all decisions; their answers are counted.
        evaluated: the evaluated rows, with the answers to all decisions.
        decisions: the answers to each decision of the question, in their order; see
            ``question_answers.decision_answers``.
        settings: the recipe's ``evaluate``, for the bootstrap behind each 95 % interval.

    Raises:
        DataError: no evaluated row has an answer to a decision.
    """
    question = task.questions[name]
    require_answers(task, name, decisions, evaluated.name)
    answered, incomplete = count_answered(decisions)
    kind, options = question.type, question.names
    shipped = _answers_of([one.shipped for one in decisions])
    calibrators = [one.calibrator for one in decisions if one.calibrator is not None]
    is_calibrated = len(calibrators) == len(decisions)
    return QuestionResult(
        name=name,
        type=kind,
        options=options,
        split=evaluated.name,
        rows=answered,
        missing=len(evaluated) - answered,
        incomplete=incomplete,
        before=measure_scores("score", kind, options, decisions, [one.before for one in decisions], settings),
        after=measure_scores("score", kind, options, decisions, [one.after for one in decisions], settings),
        calibrated=measure_scores("calibrated", kind, options, decisions, [one.shipped for one in decisions], settings)
        if is_calibrated
        else None,
        paired=paired_question_test(
            kind, options, decisions, _answers_of([one.before for one in decisions]), shipped, settings
        ),
        baselines=tuple(_baselines(kind, options, decisions, shipped, settings)),
        calibration=_calibration(kind, decisions, evaluated.name) if is_calibrated else None,
        data=tuple(count_question(task, name, split) for split in splits),
    )


def measure_scores(
    mode: Mode,
    kind: QuestionType,
    options: tuple[str, ...],
    decisions: Sequence[DecisionTruth],
    scores: Sequence[LabelScores],
    settings: EvaluateConfig,
) -> QuestionMetrics:
    """Measure the most probable labels, and how well the probabilities fit the truth.

    Args:
        mode: the way of answering.
        kind, options: type, and options or levels, of the question.
        decisions: the truth of each decision, D of them.
        scores: the scores of each decision on the rows of its truth.
        settings: the recipe's ``evaluate``, for the bootstrap behind each 95 % interval.
    """
    pairs = list(zip(decisions, scores, strict=True))
    calibrations = [calibration_metrics(own, one.expected) for one, own in pairs]
    entropies = [_cross_entropy(one.shares, own.probabilities) for one, own in pairs if one.shares is not None]
    metrics = _measure_labels(kind, options, decisions, _answers_of(scores), settings, mode, scores)
    return QuestionMetrics(
        mode,
        metrics.values,
        metrics.intervals,
        ece=float(np.mean([one.ece for one in calibrations])),
        brier=float(np.mean([one.brier for one in calibrations])),
        cross_entropy=float(np.mean(entropies)) if entropies else None,
        confusion=metrics.confusion,
        options=metrics.options,
        curve=_curve(decisions[0].expected == 1, scores[0].probabilities[:, 1]) if kind == "yes_no" else (),
        bins=_bins(decisions, scores),
    )


def require_answers(task: Task, name: str, decisions: Sequence[DecisionTruth], split: str) -> None:
    """Check that each decision of the question called ``name`` has an evaluated row.

    Raises:
        DataError: a decision has none.
    """
    for one, asked in zip(decisions, task.questions[name].decisions(name), strict=True):
        if not len(one.rows):
            raise DataError(
                f"task.questions.{asked.title}: no row of the {split} split has an answer; evaluate a split "
                "with answers, more rows, or remove the question"
            )


def count_answered(decisions: Sequence[DecisionTruth]) -> tuple[int, int]:
    """Return how many rows have an answer to a decision of a question, and how many of them not to all."""
    _, counts = np.unique(np.concatenate([one.rows for one in decisions]), return_counts=True)
    return len(counts), int((counts < len(decisions)).sum())


def count_question(task: Task, name: str, split: Split) -> AnswerCounts:
    """Count the answers to the question called ``name`` in ``split``."""
    question = task.questions[name]
    places = [index for index, one in enumerate(task.decisions) if one.question == name]
    columns = [split.of_decision(place).labels for place in places]
    missing = sum(all(answers[place] is None for place in places) for answers in split.answers)
    counts = (
        tuple(sum(labels) for labels in columns)  # a label of 1 is "yes"
        if question.type == "multi"
        else tuple(columns[0].count(label) for label in range(len(question.names)))
    )
    return AnswerCounts(split.name, len(split), missing, counts)


def yes_threshold(prior: Sequence[float], tau: float) -> float:
    """Return the plain calibrated probability of yes above which a calibrator of no and yes answers yes.

    The calibrator divides the probabilities by the ``tau``-th power of the shares of no and yes, (2,), and answers with
    the larger one.
    """
    if not tau:
        return 0.5
    no, yes = (share**tau for share in prior)
    return float(yes / (no + yes))


def paired_question_test(
    kind: QuestionType,
    options: tuple[str, ...],
    decisions: Sequence[DecisionAnswers],
    before: Sequence[Ints],
    after: Sequence[Ints],
    settings: EvaluateConfig,
) -> QuestionTest:
    """Test the answers ``after`` against ``before``, the predicted labels of each decision, on the same rows."""
    metric = headline(kind)
    if kind == "multi":
        old, new = _option_answers(decisions, before), _option_answers(decisions, after)
        full = new.known.all(axis=1)
        right_before, right_after = old.exact[full], new.exact[full]
        gain, interval = option_gain(old, new, settings)
    else:
        expected, old_labels, new_labels = decisions[0].expected, before[0], after[0]
        right_before, right_after = old_labels == expected, new_labels == expected
        found, limits = paired_difference(
            MATRIX_METRICS[kind][metric.name], expected, old_labels, new_labels, size=len(options), settings=settings
        )
        gain, interval = (None, None) if np.isnan(found) else (found, limits)
    fixed, broken = int((~right_before & right_after).sum()), int((right_before & ~right_after).sum())
    p_value = float(binomtest(fixed, fixed + broken).pvalue) if fixed + broken else 1.0
    return QuestionTest(metric.name, gain, interval, fixed, broken, p_value)


def _measure_labels(
    kind: QuestionType,
    options: tuple[str, ...],
    decisions: Sequence[DecisionTruth],
    answers: Sequence[Ints],
    settings: EvaluateConfig,
    mode: Mode = "score",
    scores: Sequence[LabelScores] = (),
) -> QuestionMetrics:
    """Measure predicted labels of each decision; the metrics that need probabilities are None without ``scores``."""
    if kind == "multi":
        values, intervals = measure_options(_option_answers(decisions, answers), settings)
        table = tuple(
            _option(option, one.expected, own, settings)
            for option, one, own in zip(options, decisions, answers, strict=True)
        )
        return QuestionMetrics(mode, values, intervals, options=table)
    expected = decisions[0].expected
    matrix = count_answers(expected, answers[0], len(options))
    values, intervals = _of_matrix(kind, matrix, settings)
    if scores:
        further, limits = _measure_rows_of(kind, expected, scores[0].probabilities, settings)
        values, intervals = values | further, intervals | limits
    ordered = {name: values.get(name) for name in QUESTION_METRICS[kind]}
    return QuestionMetrics(mode, ordered, intervals, confusion=tuple(map(tuple, matrix[:, :-1].tolist())))


def _of_matrix(
    kind: QuestionType, matrix: Ints, settings: EvaluateConfig
) -> tuple[dict[str, float | None], dict[str, Interval]]:
    """Return the metrics of a confusion matrix (K, K + 1), None where undefined, and their intervals."""
    functions = MATRIX_METRICS[kind]
    found = {name: float(function(matrix[None])[0]) for name, function in functions.items()}
    defined = {name: functions[name] for name, value in found.items() if not np.isnan(value)}
    values = {name: value if name in defined else None for name, value in found.items()}
    return values, intervals_of_matrix(defined, matrix, settings)


def _measure_rows_of(
    kind: QuestionType, expected: Ints, probabilities: Floats, settings: EvaluateConfig
) -> tuple[dict[str, float | None], dict[str, Interval]]:
    """Return the metrics of the type that need probabilities, with their intervals; none for other types."""
    if kind == "yes_no":
        return measure_ranking(expected == 1, probabilities[:, 1], settings)
    if kind != "score":
        return {}, {}
    errors = np.abs(probabilities @ np.arange(probabilities.shape[1]) - expected)

    def mean_error(weights: Floats) -> dict[str, Floats]:
        return {"mae_expected": weights @ errors / weights.sum(axis=1)}

    return measure_rows(mean_error, len(expected), settings)


def _option(option: str, expected: Ints, answers: Ints, settings: EvaluateConfig) -> OptionMetrics:
    support = int((expected == 1).sum())
    if not support:
        return OptionMetrics(option, len(expected), 0, None, None, None, None)
    precision, recall, f1, _ = precision_recall_fscore_support(expected, answers, labels=[1], zero_division=0.0)
    matrix = count_answers(expected, answers, 2)
    interval = intervals_of_matrix({"f1": yes_f1}, matrix, settings)["f1"]
    return OptionMetrics(option, len(expected), support, float(precision[0]), float(recall[0]), float(f1[0]), interval)


def _curve(positive: Bools, scores: Floats) -> tuple[PrecisionRecallPoint, ...]:
    """Return at most 100 points of the curve of precision against recall; none where only one class has rows."""
    if not positive.any() or positive.all():
        return ()
    precision, recall, thresholds = precision_recall_curve(positive, scores)
    # The last point of scikit-learn's curve, a recall of 0, has no threshold.
    kept = np.unique(np.linspace(0, len(thresholds) - 1, _MOST_CURVE_POINTS).round().astype(int))[::-1]
    return tuple(PrecisionRecallPoint(float(recall[i]), float(precision[i]), float(thresholds[i])) for i in kept)


def _bins(decisions: Sequence[DecisionTruth], scores: Sequence[LabelScores]) -> tuple[ReliabilityBin, ...]:
    """Return the bins of the reliability diagram of the answers to all decisions, which have the same labels."""
    together = LabelScores(
        np.concatenate([one.log_probs for one in scores]), np.concatenate([one.probabilities for one in scores])
    )
    return calibration_metrics(together, np.concatenate([one.expected for one in decisions])).bins


def _cross_entropy(shares: Floats, probabilities: Floats) -> float:
    """Return the mean cross entropy of probabilities (N, K) against shares (N, K), in nats."""
    return float(-(shares * np.log(np.maximum(probabilities, np.finfo(np.float64).tiny))).sum(axis=1).mean())


def _answers_of(scores: Sequence[LabelScores]) -> list[Ints]:
    """The most probable label of each row, for each decision."""
    return [one.probabilities.argmax(axis=1) for one in scores]


def _option_answers(decisions: Sequence[DecisionTruth], answers: Sequence[Ints]) -> OptionAnswers:
    """Bring the answers to all options into one table of the rows that have an answer to an option."""
    rows = np.unique(np.concatenate([one.rows for one in decisions]))
    shape = len(rows), len(decisions)
    expected, predicted, known = (np.zeros(shape, dtype=bool) for _ in range(3))
    for index, (one, own) in enumerate(zip(decisions, answers, strict=True)):
        places = np.searchsorted(rows, one.rows)
        expected[places, index], predicted[places, index], known[places, index] = one.expected == 1, own == 1, True
    return OptionAnswers(expected, predicted, known)


def _baselines(
    kind: QuestionType,
    options: tuple[str, ...],
    decisions: Sequence[DecisionAnswers],
    shipped: Sequence[Ints],
    settings: EvaluateConfig,
) -> list[QuestionBaseline]:
    """Measure each simple method; an option that it could not be fitted to gets its most frequent answer."""
    by_name = [{method.name: method for method in one.simple} for one in decisions]
    names: dict[BaselineName, None] = dict.fromkeys(name for methods in by_name for name in methods)
    found = []
    for name in names:
        methods = [own.get(name) or own["majority"] for own in by_name]
        answers = [method.answers for method in methods]
        metrics = _measure_labels(kind, options, decisions, answers, settings)
        paired = paired_question_test(kind, options, decisions, answers, shipped, settings)
        found.append(QuestionBaseline(name, tuple(method.settings for method in methods), metrics, paired))
    return found


def _calibration(kind: QuestionType, decisions: Sequence[DecisionAnswers], split: str) -> QuestionCalibration:
    calibrators = [one.calibrator for one in decisions if one.calibrator is not None]
    fitted_on = next(one.fitted_on for one in decisions if one.fitted_on is not None)
    abstains = any(one.unsure is not None for one in decisions)
    unsure = np.concatenate(
        [np.zeros(len(one.rows), dtype=bool) if one.unsure is None else one.unsure for one in decisions]
    )
    answers = _answers_of([one.shipped for one in decisions])
    right = np.concatenate([own == one.expected for one, own in zip(decisions, answers, strict=True)])
    return QuestionCalibration(
        fitted_on=fitted_on,
        fitted_rows=tuple(one.rows for one in calibrators),
        cross_fitted=fitted_on == split,
        temperatures=tuple(one.temperature for one in calibrators),
        thresholds=tuple(yes_threshold(one.prior, one.tau) for one in calibrators)
        if kind in ("yes_no", "multi")
        else (),
        unsure=float(unsure.mean()) if abstains else None,
        sure_accuracy=float(right[~unsure].mean()) if abstains and not unsure.all() else None,
    )
