"""Calibrate a trained classifier on its validation split, and measure how far its answers can be relied on.

N: texts. K: labels.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from whinchat.data.dataset import Corpus, Split
from whinchat.evaluation.calibrator import Calibrator
from whinchat.evaluation.evaluate import EvaluationOutcome
from whinchat.evaluation.reliability import ScoredSplit, analyze, calibrate_rows, fit_with_threshold
from whinchat.evaluation.results import ReliabilityReport
from whinchat.evaluation.scoring import score_prompts
from whinchat.models.forward import Engine
from whinchat.recipe.schema import Recipe

ScoreTexts = Callable[[Sequence[str]], NDArray[np.float32]]


def text_scorer(recipe: Recipe, engine: Engine) -> ScoreTexts:
    """Return the function by which ``engine`` scores texts, (N, K)."""

    def score_texts(texts: Sequence[str]) -> NDArray[np.float32]:
        prompts = engine.template.encode(texts)
        return score_prompts(engine, prompts, recipe.evaluate.per_device_eval_batch_size, "Examining", labels_only=True)

    return score_texts


def calibrate_and_analyze(
    recipe: Recipe, corpus: Corpus, score_texts: ScoreTexts, split: Split, after: EvaluationOutcome
) -> tuple[Calibrator | None, ReliabilityReport | None, EvaluationOutcome]:
    """Fit the calibrator on the validation split, and analyze the answers on ``split``.

    Args:
        recipe: the recipe of the run.
        corpus: the data set of the run.
        score_texts: returns the trained model's scores of texts, (N, K).
        split: the evaluated rows.
        after: the evaluation of the trained model on ``split``.

    Returns:
        The calibrator and the reliability report, or None for both for a data set without a validation split; and
        ``after`` with the calibrated answer to each row.
    """
    if corpus.validation is None:
        return None, None, after

    evaluated = ScoredSplit(split, np.array([prediction.log_probs for prediction in after.predictions]))
    validation = evaluated
    if corpus.validation.fingerprint() != split.fingerprint():
        validation = ScoredSplit(corpus.validation, score_texts(corpus.validation.texts).astype(np.float64))
    calibrator = fit_with_threshold(validation, recipe.task.labels, recipe.evaluate)
    rows = calibrate_rows(calibrator, validation, evaluated, recipe.evaluate)
    reliability = analyze(calibrator, validation, evaluated, rows, recipe.evaluate, score_texts)
    answers = zip(after.predictions, rows.probabilities.tolist(), rows.unsure.tolist(), strict=True)
    predictions = tuple(
        replace(prediction, probabilities=tuple(probabilities), unsure=unsure)
        for prediction, probabilities, unsure in answers
    )
    return calibrator, reliability, replace(after, predictions=predictions)
