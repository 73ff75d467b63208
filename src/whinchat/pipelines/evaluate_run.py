"""What may be done to a finished run without training: measure it again, fit its answers anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from whinchat.data.dataset import Split
from whinchat.data.sources import load_corpus, load_split
from whinchat.errors import RecipeError
from whinchat.evaluation.evaluate import evaluate
from whinchat.evaluation.metrics import LabelScores, compute_calibrated_metrics
from whinchat.evaluation.results import Evaluation, Metrics
from whinchat.hub.client import fetch_classifier
from whinchat.inference.predictor import load_calibrator, load_engine
from whinchat.recipe.loader import load_recipe
from whinchat.recipe.schema import DataConfig, Recipe
from whinchat.storage.json_records import to_json
from whinchat.storage.run_folder import RunFolder

# What an evaluation cannot change: calibration, or what is measured once when it is fitted.
_FITTED = {
    "evaluate.metric",
    "evaluate.wanted_accuracy",
    "evaluate.slices",
    "evaluate.stress_edits",
    "evaluate.stress_rows",
}


@dataclass(frozen=True)
class RunEvaluation:
    """A trained classifier, measured again.

    Attributes:
        evaluation: by plain scores and by free generation.
        calibrated: the calibrated answers that ``predict`` gives; None for a run without a fitted calibrator.
        in_sample: calibration was fitted on these very rows, so that it looks better than it is.
    """

    evaluation: Evaluation
    calibrated: Metrics | None
    in_sample: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; ``evaluation`` stands at the top level."""
        return {
            **to_json(self.evaluation),
            "decide": None if self.calibrated is None else to_json(self.calibrated),
            "in_sample": self.in_sample,
        }


def evaluate_run(path: Path, source: str | None = None, overrides: Sequence[str] = ()) -> RunEvaluation:
    """Measure a trained run again: on its own split, or on every row of ``source``.

    Args:
        path: the run folder, an adapter's, or OWNER/NAME on the hub.
        source: a file, folder, hub data set or package; its own splits, limits and columns are then the defaults of
            ``data``, not those of the run's recipe.
        overrides: ``data.KEY=VALUE`` and ``evaluate.KEY=VALUE``.

    Raises:
        RecipeError: an override of anything else, which the trained adapter could not follow.
        WhinchatError: the run or the data cannot be read.
    """
    path = fetch_classifier(path)
    recipe, split = _to_measure(path, source, overrides)
    trained, engine = load_engine(path)
    calibrator = load_calibrator(path, trained)
    split = split.head(recipe.evaluate.rows)
    outcome = evaluate(engine, split, recipe.evaluate, "after")
    if not calibrator.rows:
        return RunEvaluation(outcome.evaluation, None, in_sample=False)
    log_probs = np.array([one.log_probs for one in outcome.predictions], dtype=np.float32)
    expected = np.array(split.labels)
    probabilities, answers = calibrator.probabilities(log_probs), calibrator.decide(log_probs)
    return RunEvaluation(
        outcome.evaluation,
        compute_calibrated_metrics(
            calibrator.labels, LabelScores(log_probs, probabilities), answers, expected, recipe.evaluate
        ),
        # Calibrators are fitted on the run's own validation split.
        in_sample=source is None and split.name == "validation",
    )


def _to_measure(path: Path, source: str | None, overrides: Sequence[str]) -> tuple[Recipe, Split]:
    """The recipe to evaluate by, and the rows."""
    asked = {override.partition("=")[0].strip(): override for override in overrides}
    for key, override in asked.items():
        if not key.startswith(("data.", "evaluate.")):
            raise RecipeError(
                f"--set {override}: an evaluation takes data.* and evaluate.* only; the rest is trained in"
            )
        if key in _FITTED:
            raise RecipeError(
                f"--set {override}: answers are fitted already; `whinchat calibrate {path}` fits them anew"
            )
    RunFolder(path).read_recipe()  # says what a run folder is, where this is none
    recipe = load_recipe(str(RunFolder(path).recipe), overrides)
    if source is not None:
        parts = [key.split(".") for key in asked]
        fresh = {key: getattr(recipe.data, key) for section, key, *_ in parts if section == "data"}
        limits = {} if "evaluate.rows" in asked else {"rows": None}
        recipe = recipe.model_copy(
            update={
                "data": DataConfig.model_validate(fresh | {"source": source}),
                "evaluate": recipe.evaluate.model_copy(update=limits),
            }
        )
        return recipe, load_split(recipe)
    return recipe, load_corpus(recipe).split(recipe.evaluate.split)
