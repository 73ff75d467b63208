"""Evaluate a trained classifier again, on its own split or on other data."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from whinchat.evaluation.evaluate import evaluate
from whinchat.evaluation.metrics import LabelScores, compute_metrics
from whinchat.evaluation.results import Evaluation, Metrics
from whinchat.hub.client import fetch_classifier
from whinchat.inference.predictor import Predictor
from whinchat.pipelines.stored_runs import evaluated_rows
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
    """

    evaluation: Evaluation
    calibrated: Metrics | None
    in_sample: bool

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types: the keys of ``evaluation``, with ``decide`` and ``in_sample`` beside them."""
        return {**to_json(self.evaluation), "decide": to_json(self.calibrated), "in_sample": self.in_sample}


def evaluate_run(run: str | Path, source: str | None = None, overrides: Sequence[str] = ()) -> RunEvaluation:
    """Evaluate a trained classifier on the split that its recipe evaluates, or on every row of ``source``.

    Args:
        run: a run folder, an adapter folder, or OWNER/NAME on the Hugging Face hub.
        source: a file, folder, hub data set or package to evaluate on. The recipe's own data section is then left
            out: columns, label names and limits of ``source`` come from ``overrides``.
        overrides: recipe keys to change, as ``data.KEY=VALUE`` or ``evaluate.KEY=VALUE``.

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
    predictor = Predictor.load(folder.adapter if unfinished else path)
    calibrator = predictor.calibrator
    split = split.head(recipe.evaluate.rows)
    outcome = evaluate(predictor.engine, split, recipe.evaluate, "after")
    if not calibrator.rows:
        return RunEvaluation(outcome.evaluation, None, in_sample=False)
    log_probs = np.array([prediction.log_probs for prediction in outcome.predictions], dtype=np.float32)
    scores = LabelScores(log_probs, calibrator.probabilities(log_probs))
    answers, expected = scores.probabilities.argmax(axis=1), np.array(split.labels)
    labels, settings = calibrator.labels, recipe.evaluate
    calibrated = compute_metrics("calibrated", labels, expected, answers, settings, scores=scores)
    # The calibrator of a run is fitted on the run's own validation split.
    return RunEvaluation(outcome.evaluation, calibrated, in_sample=source is None and split.name == "validation")
