"""Evaluate a trained classifier again, on its own split or on other data."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from whinchat.data.dataset import Split
from whinchat.data.sources import load_corpus, load_split
from whinchat.errors import RecipeError
from whinchat.evaluation.evaluate import evaluate
from whinchat.evaluation.metrics import LabelScores, compute_metrics
from whinchat.evaluation.results import Evaluation, Metrics
from whinchat.hub.client import fetch_classifier
from whinchat.inference.predictor import Predictor
from whinchat.recipe.loader import load_recipe
from whinchat.recipe.schema import DataConfig, Recipe
from whinchat.storage.json_records import to_json
from whinchat.storage.run_folder import RunFolder

# Keys that take effect when the calibrator is fitted, not when a run is evaluated.
_CALIBRATION_KEYS = {
    f"evaluate.{key}" for key in ("metric", "wanted_accuracy", "slices", "stress_edits", "stress_rows")
}


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
    recipe, split = _recipe_and_split(path, source, overrides)
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


def _recipe_and_split(path: Path, source: str | None, overrides: Sequence[str]) -> tuple[Recipe, Split]:
    """Return the recipe that the evaluation follows, and the split to evaluate."""
    override_of = {override.partition("=")[0].strip(): override for override in overrides}
    for key, override in override_of.items():
        if not key.startswith(("data.", "evaluate.")):
            raise RecipeError(
                f"--set {override}: an evaluation takes data.* and evaluate.* only; other keys take effect in training"
            )
        if key in _CALIBRATION_KEYS:
            raise RecipeError(
                f"--set {override}: takes effect in calibration; `whinchat calibrate {path}` calibrates the run again"
            )
    folder = RunFolder(path)
    folder.read_recipe()  # raises RunError, which says what a run folder is, if this is none
    recipe = load_recipe(str(folder.recipe), overrides)
    if source is None:
        return recipe, load_corpus(recipe).split(recipe.evaluate.split)
    # Columns, limits and label map of the recipe describe the run's own data, so only the overridden ones are kept.
    changed = {key.split(".")[1] for key in override_of if key.startswith("data.")}
    data = {key: getattr(recipe.data, key) for key in changed}
    rows = recipe.evaluate.rows if "evaluate.rows" in override_of else None
    evaluate_config = recipe.evaluate.model_copy(update={"rows": rows})
    data_config = DataConfig.model_validate(data | {"source": source})
    recipe = recipe.model_copy(update={"data": data_config, "evaluate": evaluate_config})
    return recipe, load_split(recipe)
