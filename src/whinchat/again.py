"""What may be done to a finished run without training: measure it again, fit its answers anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whinchat.data.records import Split
from whinchat.data.sources import load_corpus, load_split
from whinchat.errors import RecipeError, RunError
from whinchat.publish.folder import RunFolder
from whinchat.publish.hub import fetch
from whinchat.publish.records import RunRecord
from whinchat.recipe.files import load_recipe, write_recipe
from whinchat.recipe.recipe import Data, Metric, Recipe
from whinchat.run import examine_run, load_calibrator, load_engine

if TYPE_CHECKING:
    from whinchat.evaluation.records import Evaluation, Measured
    from whinchat.evaluation.reestimation import Reweighed

# What an evaluation cannot change: calibration, or what is measured once when it is fitted.
_FITTED = {"evaluate.metric", "evaluate.wanted_accuracy", "evaluate.stress_rows"}


@dataclass(frozen=True)
class Remeasured:
    """A trained classifier, measured again.

    Attributes:
        evaluation: by plain scores and by free generation.
        decided: the calibrated answers that ``predict`` gives; None of a run that was calibrated on nothing.
        in_sample: calibration was fitted on these very rows, so that it looks better than it is.
        reweighed: calibrated answers under label shares estimated from the texts; None where not asked for.
    """

    evaluation: Evaluation
    decided: Measured | None
    in_sample: bool
    reweighed: Reweighed | None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; ``evaluation`` stands at the top level."""
        found = self.evaluation.to_dict() | {
            "decide": None if self.decided is None else asdict(self.decided),
            "in_sample": self.in_sample,
        }
        return found | ({} if self.reweighed is None else {"reestimated_priors": self.reweighed.to_dict()})


def evaluate_run(
    path: Path, source: str | None = None, overrides: Sequence[str] = (), *, reestimate_priors: bool = False
) -> Remeasured:
    """Measure a trained run again: on its own split, or on every row of ``source``.

    Args:
        path: the run folder, an adapter's, or OWNER/NAME on the hub.
        source: a file, folder, hub data set or package; its own splits, limits and columns are then the defaults of
            ``data``, not those of the run's recipe.
        overrides: ``data.KEY=VALUE`` and ``evaluate.KEY=VALUE``.
        reestimate_priors: measure the answers under label shares estimated from the texts, too.

    Raises:
        RecipeError: an override of anything else, which the trained adapter could not follow.
        WhinchatError: the run or the data cannot be read; for label shares, the run has no calibrator to start from,
            or the texts are too few.
    """
    import numpy as np

    from whinchat.evaluation.evaluate import evaluate
    from whinchat.evaluation.metrics import measure_decision
    from whinchat.evaluation.reestimation import measure_reanswered, require

    path = fetch(path)
    recipe, split = _to_measure(path, source, overrides)
    trained, engine = load_engine(path)
    calibrator = load_calibrator(path, trained)
    split = split.head(recipe.evaluate.rows)
    if reestimate_priors:
        require(calibrator, len(split), path)
    outcome = evaluate(engine, split, recipe.evaluate, "after")
    if not calibrator.rows:
        return Remeasured(outcome.evaluation, None, in_sample=False, reweighed=None)
    log_probs = np.array([one.log_probs for one in outcome.predictions], dtype=np.float32)
    expected = np.array(split.labels)
    probabilities, answers = calibrator.probabilities(log_probs), calibrator.decide(log_probs)
    return Remeasured(
        outcome.evaluation,
        measure_decision(calibrator.labels, log_probs, probabilities, answers, expected, recipe.evaluate),
        # Calibrators are fitted on the run's own validation split.
        in_sample=source is None and split.name == "validation",
        reweighed=measure_reanswered(calibrator, log_probs, expected, recipe.evaluate) if reestimate_priors else None,
    )


def calibrate_run(path: Path, metric: Metric | None = None, wanted_accuracy: float | None = None) -> RunRecord:
    """Fit probabilities, decision and threshold of a finished run anew, and publish it again; nothing is trained.

    Args:
        path: the run folder.
        metric: what the decision shall serve; None for what it serves.
        wanted_accuracy: as ``evaluate.wanted_accuracy``; 0 for never unsure, None for what it is.

    Raises:
        RunError: the run is not finished, has no validation split, or its data has changed.
    """
    from whinchat.evaluation.evaluate import Outcome
    from whinchat.publish.predictions import read_predictions
    from whinchat.publish.publish import write_all

    folder = RunFolder(path)
    record = folder.read()
    asked = [f"evaluate.metric={metric}"] if metric else []
    if wanted_accuracy is not None:
        asked.append(f"evaluate.wanted_accuracy={wanted_accuracy or 'null'}")
    recipe = load_recipe(str(folder.recipe), asked)
    corpus = load_corpus(recipe)
    if corpus.validation is None:
        raise RunError(f"{path}: has no validation split to calibrate on; run again with data.validation_rows")
    split = corpus.split(recipe.evaluate.split).head(recipe.evaluate.rows)
    if split.fingerprint() != record.after.split_fingerprint:
        raise RunError(
            f"{path}: {recipe.data.source} is no longer what the run was measured on; bring the old data back, or run "
            "again with --overwrite"
        )
    _, engine = load_engine(path)
    after = Outcome(record.after, read_predictions(folder.predictions).after)
    record = replace(record, recipe=recipe, trust=examine_run(recipe, corpus, engine, split, after, folder))
    write_recipe(recipe, folder.adapter)
    folder.write(record)
    write_all(record, folder)
    return record


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
                "data": Data.model_validate(fresh | {"source": source}),
                "evaluate": recipe.evaluate.model_copy(update=limits),
            }
        )
        return recipe, load_split(recipe)
    return recipe, load_corpus(recipe).split(recipe.evaluate.split)
