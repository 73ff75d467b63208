"""Evaluate a trained classifier again, on its own split or on other data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from whinchat.data.dataset import Split
from whinchat.data.learned_texts import find_learned, read_learned
from whinchat.evaluation.evaluate import evaluate
from whinchat.evaluation.metrics import LabelScores, compute_metrics
from whinchat.evaluation.question_answers import DecisionTruth, uncalibrated_scores
from whinchat.evaluation.question_metrics import count_answered, measure_scores, require_answers
from whinchat.evaluation.question_results import QuestionEvaluation, QuestionMetrics
from whinchat.evaluation.question_scores import evaluate_questions
from whinchat.evaluation.results import Evaluation, Metrics, Mode
from whinchat.hub.client import fetch_classifier
from whinchat.inference.predictor import Predictor
from whinchat.inference.question_predictor import QuestionPredictor, load_predictor
from whinchat.pipelines.stored_runs import evaluated_rows
from whinchat.recipe.schema import EvaluateConfig
from whinchat.storage.json_records import to_json
from whinchat.storage.run_folder import RunFolder


@dataclass(frozen=True)
class RunEvaluation:
    """The evaluation of a trained classifier.

    Attributes:
        evaluation: metrics of label scoring and, if the recipe asks for it, of free generation.
        calibrated: metrics of the calibrated answers, which ``whinchat predict`` gives; None for a run without a
            calibrator.
        in_sample: whether the calibrator was fitted on the evaluated rows, so that ``calibrated`` is too good.
        learned_texts: number of evaluated texts that the classifier was trained on, which makes all metrics too good;
            None where it is not known.
    """

    evaluation: Evaluation
    calibrated: Metrics | None
    in_sample: bool
    learned_texts: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types: the keys of ``evaluation``, with ``decide`` and the other fields beside them."""
        beside = {"decide": to_json(self.calibrated), "in_sample": self.in_sample, "learned_texts": self.learned_texts}
        return {**to_json(self.evaluation), **beside}


@dataclass(frozen=True)
class QuestionsEvaluation:
    """The evaluation of a trained classifier whose task asks questions.

    Attributes:
        split: name of the evaluated split, or the source whose rows were evaluated.
        split_fingerprint: fingerprint of the evaluated rows.
        rows: number of evaluated rows, with or without an answer to a question.
        questions: how each question is answered, in the order of the recipe.
        in_sample: whether the calibration was fitted on the evaluated rows, so that the calibrated answers look too
            good.
        learned_texts: number of evaluated texts that the classifier was trained on, which makes all metrics too good;
            None where it is not known.
    """

    split: str
    split_fingerprint: str
    rows: int
    questions: tuple[QuestionEvaluation, ...]
    in_sample: bool
    learned_texts: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        content: dict[str, Any] = to_json(self)
        return content


def evaluate_run(
    run: str | Path, source: str | None = None, overrides: Sequence[str] = ()
) -> RunEvaluation | QuestionsEvaluation:
    """Evaluate a trained classifier on the split that its recipe evaluates, or on every row of ``source``.

    Args:
        run: a run folder, an adapter folder, or OWNER/NAME on the Hugging Face hub.
        source: a file, folder, hub data set or package to evaluate on. The recipe's own data section is then left
            out: columns, label names and limits of ``source`` come from ``overrides``.
        overrides: recipe keys to change, as ``data.KEY=VALUE`` or ``evaluate.KEY=VALUE``.

    Returns:
        The metrics; a ``QuestionsEvaluation`` for a task with questions, where each question is measured on the rows
        that have an answer to it.

    Raises:
        RecipeError: an override is not valid, or changes a key that takes effect in training or calibration.
        RunError: ``run`` is not a trained classifier.
        DataError: the data cannot be read, or does not fit the task.
        HubError: the classifier cannot be fetched from the hub.
    """
    path = fetch_classifier(run)
    recipe, split = evaluated_rows(path, source, overrides)
    folder = RunFolder(path)
    # What `whinchat train` made can be measured; it has answers of its own, though no calibrated ones.
    unfinished = not folder.is_model and not folder.manifest.is_file() and folder.adapter.is_dir()
    predictor = load_predictor(folder.adapter if unfinished else path, student=False)
    split = split.head(recipe.evaluate.rows)
    # The calibration of a run is fitted on the run's own validation split.
    fitted_here = source is None and split.name == "validation"
    known = read_learned(path)
    learned = None if known is None else len(find_learned(known, split.texts))
    measured = (
        _evaluate_questions(predictor, split, recipe.evaluate, fitted_here=fitted_here)
        if isinstance(predictor, QuestionPredictor)
        else _evaluate_labels(predictor, split, recipe.evaluate, fitted_here=fitted_here)
    )
    return replace(measured, learned_texts=learned)


def _evaluate_labels(
    predictor: Predictor, split: Split, settings: EvaluateConfig, *, fitted_here: bool
) -> RunEvaluation:
    """Measure a classifier whose task has labels."""
    calibrator = predictor.calibrator
    outcome = evaluate(predictor.engine, split, settings, "after")
    if not calibrator.rows:
        return RunEvaluation(outcome.evaluation, None, in_sample=False)
    log_probs = np.array([prediction.log_probs for prediction in outcome.predictions], dtype=np.float32)
    scores = LabelScores(log_probs, calibrator.probabilities(log_probs))
    answers, expected = scores.probabilities.argmax(axis=1), np.array(split.labels)
    calibrated = compute_metrics("calibrated", calibrator.labels, expected, answers, settings, scores=scores)
    return RunEvaluation(outcome.evaluation, calibrated, in_sample=fitted_here)


def _evaluate_questions(
    predictor: QuestionPredictor, split: Split, settings: EvaluateConfig, *, fitted_here: bool
) -> QuestionsEvaluation:
    """Measure a classifier whose task asks questions; a question that no row answers has no metrics.

    Raises:
        DataError: an option of a question has no row, though the question has.
    """
    task, decisions = predictor.recipe.task, predictor.recipe.task.decisions
    truths = [DecisionTruth.of(split, index, len(decision.labels)) for index, decision in enumerate(decisions)]
    places = {
        name: [index for index, decision in enumerate(decisions) if decision.question == name]
        for name in task.questions
    }
    asked = {name: own for name, own in places.items() if any(len(truths[index].rows) for index in own)}
    for name, own in asked.items():
        require_answers(task, name, [truths[index] for index in own], split.name)
    scored = [index for own in asked.values() for index in own]
    answers = tuple(tuple(row[index] for index in scored) for row in split.answers)
    engines = [predictor.engines[index] for index in scored]
    outcomes = evaluate_questions(engines, replace(split, answers=answers), settings, "after")
    scores = {index: uncalibrated_scores(one.predictions) for index, one in zip(scored, outcomes, strict=True)}
    calibrated = {
        index: LabelScores(own.log_probs, predictor.calibrators[index].probabilities(own.log_probs))
        for index, own in scores.items()
        if predictor.calibrators[index].rows
    }

    def measure(name: str, mode: Mode, found: Mapping[int, LabelScores]) -> QuestionMetrics | None:
        """Return the metrics of a way of answering whose scores of each decision are ``found``, if they are."""
        question, own = task.questions[name], places[name]
        if not found.keys() >= set(own):
            return None
        pairs = [(truths[index], found[index]) for index in own]
        own_truths, own_scores = zip(*pairs, strict=True)
        return measure_scores(mode, question.type, question.names, own_truths, own_scores, settings)

    questions = []
    for name, question in task.questions.items():
        rows, incomplete = count_answered([truths[index] for index in places[name]])
        found = measure(name, "score", scores), measure(name, "calibrated", calibrated)
        counts = rows, len(split) - rows, incomplete
        questions.append(QuestionEvaluation(name, question.type, question.names, *counts, *found))
    in_sample = fitted_here and bool(calibrated)
    return QuestionsEvaluation(split.name, split.fingerprint(), len(split), tuple(questions), in_sample)
