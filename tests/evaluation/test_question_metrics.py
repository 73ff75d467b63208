"""Metrics of each type of question: by hand, against scikit-learn, with missing answers and shares."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    cohen_kappa_score,
    f1_score,
    mean_absolute_error,
    roc_auc_score,
)

from whinchat.data.dataset import Split
from whinchat.errors import DataError
from whinchat.evaluation.calibration import fit_calibrator
from whinchat.evaluation.calibrator import Calibrator
from whinchat.evaluation.evaluate import EvaluationOutcome
from whinchat.evaluation.metrics import LabelScores
from whinchat.evaluation.question_answers import DecisionAnswers, decision_answers
from whinchat.evaluation.question_metric_registry import QUESTION_METRICS
from whinchat.evaluation.question_metrics import count_question, measure_question, yes_threshold
from whinchat.evaluation.question_results import AnswerCounts, QuestionResult
from whinchat.evaluation.results import Prediction
from whinchat.evaluation.row_resampling import measure_rows, ranking_metrics
from whinchat.evaluation.simple_methods import SimpleAnswers
from whinchat.recipe.question import Question
from whinchat.recipe.schema import EvaluateConfig
from whinchat.recipe.task import Task
from whinchat.storage.json_records import from_json, to_json

QUICK = EvaluateConfig(bootstrap_resamples=200)
YES_NO = Question(type="yes_no", instructions="Angry?")
LEVELS = Question(type="score", instructions="How urgent?", levels=["low", "some", "high", "top"])
TAGS = Question(type="multi", instructions="Which?", options=["a", "b", "c"])


def scores_of(probabilities: object) -> LabelScores:
    found = np.asarray(probabilities, dtype=np.float64)
    return LabelScores(np.log(found), found)


def of_yes(yes: object) -> LabelScores:
    return scores_of(np.stack([1 - np.asarray(yes), np.asarray(yes)], axis=1))


def task_of(question: Question) -> Task:
    return Task.model_validate({"name": "t", "questions": {"q": question.model_dump()}})


def decision(expected: object, before: LabelScores, after: LabelScores, **further: object) -> DecisionAnswers:
    truth = np.asarray(expected)
    rows = further.pop("rows", np.arange(len(truth)))
    return DecisionAnswers(np.asarray(rows), truth, before, after, **further)


def measured(question: Question, *decisions: DecisionAnswers, rows: int | None = None) -> QuestionResult:
    rows = max(int(one.rows.max(initial=0)) for one in decisions) + 1 if rows is None else rows
    evaluated = Split("test", ("a text",) * rows, (0,) * rows, answers=((None,) * len(decisions),) * rows)
    return measure_question(task_of(question), "q", (), evaluated, decisions, QUICK)


def random_scores(rows: int, labels: int, seed: int) -> tuple[np.ndarray, LabelScores]:
    draw = np.random.default_rng(seed)
    expected = draw.integers(0, labels, rows)
    return expected, scores_of(np.exp(log_softmax(draw.normal(size=(rows, labels)) + 2 * np.eye(labels)[expected], 1)))


def test_yes_no_by_hand() -> None:
    #                 yes   no   yes   no: yes and no alternate from the surest yes down
    after = of_yes([0.9, 0.8, 0.7, 0.2])
    found = measured(YES_NO, decision([1, 0, 1, 0], of_yes([0.1] * 4), after)).after
    # Three answers of yes, two of them right, and both yes rows found.
    assert found.values["f1"] == pytest.approx(2 * (2 / 3) / (2 / 3 + 1))
    assert found.values["accuracy"] == pytest.approx(3 / 4)
    # Recall rises by half at precision 1, and by half at precision 2/3.
    assert found.values["auc_pr"] == pytest.approx((1 + 2 / 3) / 2)
    assert found.values["auc_roc"] == pytest.approx(3 / 4)
    assert found.confusion == ((1, 1), (0, 2))
    assert (found.curve[0].recall, found.curve[0].precision, found.curve[0].threshold) == (0.5, 1.0, 0.9)
    assert found.curve[-1].recall == 1.0
    assert found.brier == pytest.approx(2 * (0.01 + 0.64 + 0.09 + 0.04) / 4)


def test_score_by_hand() -> None:
    after = scores_of([[0.7, 0.1, 0.1, 0.1], [0.1, 0.2, 0.6, 0.1], [0.6, 0.2, 0.1, 0.1], [0.1, 0.1, 0.1, 0.7]])
    found = measured(LEVELS, decision([0, 1, 3, 3], after, after)).after
    assert found.values["accuracy"] == pytest.approx(2 / 4)
    assert found.values["within_one"] == pytest.approx(3 / 4)
    assert found.values["mae"] == pytest.approx((0 + 1 + 3 + 0) / 4)
    # Expected levels: 0.6, 1.7, 0.7 and 2.4.
    assert found.values["mae_expected"] == pytest.approx((0.6 + 0.7 + 2.3 + 0.6) / 4)
    # Squared distances 0 + 1 + 9 + 0; by chance: truth (1, 1, 0, 2), answers (2, 0, 1, 1).
    by_chance = (1 * (0 * 2 + 4 + 9) + 1 * (1 * 2 + 1 + 4) + 2 * (9 * 2 + 1 + 0)) / 4
    assert found.values["qwk"] == pytest.approx(1 - 10 / by_chance)


def test_multi_by_hand_with_missing_answers() -> None:
    first = decision([1, 1, 0], of_yes([0.2] * 3), of_yes([0.9, 0.1, 0.2]), rows=[0, 1, 2])
    second = decision([0, 1], of_yes([0.2] * 2), of_yes([0.6, 0.7]), rows=[0, 2])
    third = decision([0, 0], of_yes([0.2] * 2), of_yes([0.1, 0.2]), rows=[0, 2])
    result = measured(TAGS, first, second, third, rows=5)
    assert (result.rows, result.missing, result.incomplete) == (3, 2, 1)
    found = result.after
    assert [one.f1 for one in found.options] == [pytest.approx(2 / 3), pytest.approx(2 / 3), None]
    assert [(one.rows, one.support) for one in found.options] == [(3, 2), (2, 1), (2, 0)]
    assert (found.options[0].precision, found.options[0].recall) == (1.0, 0.5)
    assert found.values["macro_f1"] == pytest.approx(2 / 3)  # of the two options that apply to a row
    assert found.values["micro_f1"] == pytest.approx(2 * 2 / (2 * 2 + 2))
    assert found.values["subset_accuracy"] == pytest.approx(1 / 2)  # row 1 is not known in full
    assert result.before.values["macro_f1"] == 0
    assert result.paired.gain == pytest.approx(2 / 3)
    assert (result.paired.fixed, result.paired.broken) == (1, 0)


@pytest.mark.parametrize("seed", range(3))
def test_as_scikit_learn(seed: int) -> None:
    expected, scores = random_scores(80, 4, seed)
    answers = scores.probabilities.argmax(axis=1)
    values = measured(LEVELS, decision(expected, scores, scores)).after.values
    assert values["qwk"] == pytest.approx(cohen_kappa_score(expected, answers, weights="quadratic"))
    assert values["mae"] == pytest.approx(mean_absolute_error(expected, answers))
    assert values["macro_f1"] == pytest.approx(f1_score(expected, answers, average="macro"))
    columns = [random_scores(80, 2, 10 * seed + option) for option in range(3)]
    truth = np.stack([e for e, _ in columns], axis=1)
    told = np.stack([s.probabilities.argmax(axis=1) for _, s in columns], axis=1)
    values = measured(TAGS, *(decision(e, s, s) for e, s in columns)).after.values
    assert values["macro_f1"] == pytest.approx(f1_score(truth, told, average="macro"))
    assert values["micro_f1"] == pytest.approx(f1_score(truth, told, average="micro"))
    assert values["subset_accuracy"] == pytest.approx(accuracy_score(truth, told))


@pytest.mark.parametrize("seed", range(3))
def test_ranking_with_ties_and_weights_is_that_of_scikit_learn(seed: int) -> None:
    draw = np.random.default_rng(seed)
    positive, scores = draw.random(40) < 0.4, draw.integers(0, 8, 40) / 8
    weights = draw.integers(0, 4, (5, 40)).astype(np.float64)
    found = ranking_metrics(positive, scores)(weights)
    for index, own in enumerate(weights):
        precision = average_precision_score(positive, scores, sample_weight=own)
        assert found["auc_pr"][index] == pytest.approx(precision)
        assert found["auc_roc"][index] == pytest.approx(roc_auc_score(positive, scores, sample_weight=own))


def test_intervals_are_those_of_drawing_rows() -> None:
    expected, scores = random_scores(60, 2, 4)
    yes = scores.probabilities[:, 1]
    settings = EvaluateConfig(bootstrap_resamples=4000)
    _, intervals = measure_rows(ranking_metrics(expected == 1, yes), 60, settings)
    draw = np.random.default_rng(9)
    drawn = [roc_auc_score(expected[rows], yes[rows]) for rows in draw.integers(0, 60, (1500, 60))]
    assert (intervals["auc_roc"].low, intervals["auc_roc"].high) == pytest.approx(
        tuple(np.quantile(drawn, [0.025, 0.975])), abs=0.012
    )


def test_of_one_class_ranking_and_f1_of_yes_are_not_measured() -> None:
    found = measured(YES_NO, decision([0, 0, 0], of_yes([0.1, 0.6, 0.2]), of_yes([0.1, 0.2, 0.3])))
    assert found.after.values == {"f1": None, "auc_pr": None, "auc_roc": None, "accuracy": 1.0}
    assert set(found.after.intervals) == {"accuracy"}
    assert (found.paired.gain, found.paired.interval) == (None, None)
    assert found.after.curve == ()
    constant = scores_of([[0.7, 0.1, 0.1, 0.1]] * 3)
    assert measured(LEVELS, decision([0, 0, 0], constant, constant)).after.values["qwk"] is None
    none = decision([0, 0], of_yes([0.1, 0.6]), of_yes([0.1, 0.2]))
    empty = measured(TAGS, none, none, none)
    assert empty.after.values == {"macro_f1": None, "micro_f1": None, "subset_accuracy": 1.0}
    assert empty.paired.gain is None
    assert from_json(QuestionResult, to_json(empty)) == empty


@pytest.mark.parametrize("question", [YES_NO, LEVELS, TAGS], ids=lambda question: question.type)
@pytest.mark.parametrize("flaw", ["none", "all", "never yes"])
def test_every_interval_has_a_width_and_holds_the_value(question: Question, flaw: str) -> None:
    size = 4 if question.type == "score" else 2
    truth = np.array([1, 0, 1, 0, 1, 0, 0, 0] * 4)
    told = {"none": truth, "all": 1 - truth, "never yes": np.arange(32) % 5 == 1}[flaw].astype(int)
    told = np.where(truth == 1, 0, told) if flaw == "never yes" else told
    spread = np.full((32, size), 0.1 / (size - 1))
    spread[np.arange(32), told] = 0.9
    scores = scores_of(spread)
    found = measured(question, *[decision(truth, scores, scores) for _ in question.decisions("q")])
    for name, value in found.after.values.items():
        interval = found.after.intervals[name]
        assert interval.low < interval.high, name
        assert interval.low <= value <= interval.high, name
    for option in found.after.options:
        assert option.interval is not None
        assert option.interval.low < option.interval.high


@pytest.mark.parametrize("question", [YES_NO, TAGS], ids=["yes_no", "multi"])
def test_a_gain_from_all_wrong_to_all_right_has_a_width(question: Question) -> None:
    truth = np.array([1, 0, 1, 0, 1, 0])
    wrong, right = of_yes(np.where(truth, 0.1, 0.9)), of_yes(np.where(truth, 0.9, 0.1))
    found = measured(question, *[decision(truth, wrong, right) for _ in question.decisions("q")])
    assert found.paired.gain == 1.0
    assert found.paired.interval is not None
    assert found.paired.interval.low < found.paired.interval.high


def test_shares_have_a_cross_entropy_and_count_by_the_largest() -> None:
    shares = np.array([[0.6, 0.3, 0.1], [0.2, 0.2, 0.6]])
    question = Question(type="choice", instructions="Which?", options=["x", "y", "z"])
    scores = scores_of([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])
    found = measured(question, decision(shares.argmax(axis=1), scores, scores, shares=shares)).after
    assert found.values["accuracy"] == 1.0
    assert found.cross_entropy == pytest.approx(-(shares * np.log(scores.probabilities)).sum(axis=1).mean())
    assert measured(question, decision([0, 2], scores, scores)).after.cross_entropy is None


def test_the_threshold_is_the_probability_at_which_the_calibrated_answer_turns() -> None:
    draw = np.random.default_rng(0)
    expected = (draw.random(400) < 0.15).astype(int)
    log_probs = log_softmax(np.stack([np.zeros(400), draw.normal(1.2 * expected, 1.0)], axis=1), axis=1)
    calibrator = fit_calibrator(log_probs, expected, ("no", "yes"), QUICK)
    plain = Calibrator(calibrator.labels, calibrator.temperature, calibrator.bias)
    for tau in (0.0, 0.5, 1.0):
        favouring = Calibrator(plain.labels, plain.temperature, plain.bias, calibrator.prior, "macro_f1", tau)
        answers = favouring.probabilities(log_probs).argmax(axis=1)
        threshold = yes_threshold(calibrator.prior, tau)
        assert ((plain.probabilities(log_probs)[:, 1] > threshold) == answers).all()
    assert yes_threshold(calibrator.prior, 1.0) == pytest.approx(calibrator.prior[1])


def test_baselines_and_calibration_of_each_decision_are_brought_together() -> None:
    truths = [np.array([1, 0, 1, 0]), np.array([0, 0, 1, 1]), np.array([0, 1, 0, 0])]
    calibrator = Calibrator(("no", "yes"), 2.0, (), (0.8, 0.2), "macro_f1", 1.0, 50, 0.7)
    decisions = [
        decision(
            truth, of_yes([0.4] * 4), of_yes(np.where(truth, 0.9, 0.1)),
            calibrated=of_yes(np.where(truth, 0.8, 0.4)), unsure=truth == 0, calibrator=calibrator, fitted_on="test",
            simple=(SimpleAnswers("majority", "", np.zeros(4, int)),
                    *([SimpleAnswers("tfidf", "C = 1", truth)] if option else [])),
        )
        for option, truth in enumerate(truths)
    ]  # fmt: skip
    found = measured(TAGS, *decisions)
    assert found.calibration is not None
    assert found.calibration.thresholds == pytest.approx((0.2, 0.2, 0.2))
    assert found.calibration.cross_fitted
    assert found.calibration.unsure == pytest.approx(7 / 12)
    assert found.calibration.sure_accuracy == 1.0
    majority, tfidf = found.baselines
    assert (majority.name, tfidf.name) == ("majority", "tfidf")
    # TF-IDF could not be fitted to the first option, which the most frequent answer stands in for.
    assert [one.f1 for one in tfidf.metrics.options] == [0.0, 1.0, 1.0]
    assert tfidf.settings == ("", "C = 1", "C = 1")
    assert tfidf.paired.gain == pytest.approx(1 / 3)
    assert found.shipped.mode == "calibrated"
    assert from_json(QuestionResult, to_json(found)) == found


def test_a_decision_without_answers_is_refused_by_name() -> None:
    nothing = decision(np.zeros(0, int), of_yes([]), of_yes([]))
    some = decision([0, 1], of_yes([0.1, 0.6]), of_yes([0.1, 0.6]))
    with pytest.raises(DataError, match=r"task\.questions\.q: b: no row of the test split has an answer"):
        measured(TAGS, some, nothing, some)


def test_every_metric_of_a_type_is_in_its_result_in_order() -> None:
    for question in (YES_NO, LEVELS, TAGS):
        size = 2 if question.type != "score" else 4
        expected, scores = random_scores(30, size, 1)
        found = measured(question, *[decision(expected, scores, scores) for _ in question.decisions("q")])
        assert list(found.after.values) == list(QUESTION_METRICS[question.type])


def test_answers_are_gathered_from_the_evaluations_of_the_rows_that_have_one() -> None:
    split = Split("test", ("a", "b", "c"), (0, 0, 1), answers=((0, None), ((0.25, 0.75), 1), (1, (0.5, 0.5))))

    def outcome(*rows: tuple[tuple[float, float], tuple[float, float]]) -> EvaluationOutcome:
        predictions = tuple(
            Prediction(tuple(np.log(scores)), None, None, probabilities=told, unsure=max(told) < 0.7)
            for scores, told in rows
        )
        return EvaluationOutcome(None, predictions)  # type: ignore[arg-type]  # the metrics are not read

    row = (0.1, 0.3), (0.4, 0.6)
    calibrator = Calibrator(("no", "yes"), threshold=0.7)
    found = decision_answers(split, 1, (outcome(row, row), outcome(row, row)), calibrator, "validation")
    assert (found.rows.tolist(), found.expected.tolist()) == ([1, 2], [1, 0])
    assert found.shares is not None
    assert found.shares.tolist() == [[0, 1], [0.5, 0.5]]
    assert found.before.probabilities == pytest.approx(np.array([[0.25, 0.75]] * 2))
    assert found.shipped.probabilities.tolist() == [[0.4, 0.6]] * 2
    assert found.unsure is not None
    assert found.unsure.all()
    plain = decision_answers(split, 1, (outcome(row, row), outcome(row, row)), None, None)
    assert (plain.calibrated, plain.unsure) == (None, None)
    with pytest.raises(ValueError, match="decision 0: 3 rows of test have an answer, but 2 were evaluated before"):
        decision_answers(split, 0, (outcome(row, row), outcome(row, row)), None, None)


def test_the_answers_of_a_split_are_counted() -> None:
    levels = Split("train", ("a",) * 4, (0,) * 4, answers=((0,), (None,), (3,), ((0.1, 0.2, 0.6, 0.1),)))
    assert count_question(task_of(LEVELS), "q", levels) == AnswerCounts("train", 4, 1, (1, 0, 1, 1))
    tags = Split("train", ("a",) * 3, (0,) * 3, answers=((1, 1, None), (None, None, None), (0, 1, 0)))
    assert count_question(task_of(TAGS), "q", tags) == AnswerCounts("train", 3, 1, (1, 2, 0))
