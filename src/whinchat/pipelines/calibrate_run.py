"""Calibrate a finished run again, for another metric or another threshold."""

from dataclasses import replace
from pathlib import Path

from whinchat.data.sources import load_corpus
from whinchat.errors import RunError
from whinchat.evaluation.evaluate import EvaluationOutcome
from whinchat.inference.predictor import load_engine
from whinchat.pipelines.reliability_stage import calibrate_and_analyze
from whinchat.recipe.loader import load_recipe, write_recipe
from whinchat.recipe.schema import MetricName
from whinchat.report.write import write_report_files
from whinchat.storage.predictions import read_predictions
from whinchat.storage.run_folder import RunFolder
from whinchat.storage.run_record import RunRecord


def calibrate_run(run: str | Path, metric: MetricName | None = None, wanted_accuracy: float | None = None) -> RunRecord:
    """Fit the calibration of a finished run again, and rewrite its report and model card. Nothing is trained.

    Args:
        run: the run folder.
        metric: the metric that calibrated answers maximize, as ``evaluate.metric``; None keeps the run's own.
        wanted_accuracy: the accuracy that answers shall reach, as ``evaluate.wanted_accuracy``: answers below the
            threshold that this takes are marked as unsure. 0 marks none; None keeps the run's own.

    Returns:
        The record of the run with the new calibration.

    Raises:
        RunError: the run is not finished, has no validation split, or its data has changed since.
        RecipeError: ``metric`` or ``wanted_accuracy`` is out of range.
    """
    path = Path(run)
    folder = RunFolder(path)
    record = folder.read()
    overrides = [f"evaluate.metric={metric}"] if metric else []
    if wanted_accuracy is not None:
        overrides.append(f"evaluate.wanted_accuracy={wanted_accuracy or 'null'}")
    recipe = load_recipe(str(folder.recipe), overrides)
    corpus = load_corpus(recipe)
    if corpus.validation is None:
        raise RunError(f"{path}: has no validation split to calibrate on; run again with data.validation_rows")
    split = corpus.split(recipe.evaluate.split).head(recipe.evaluate.rows)
    if split.fingerprint() != record.after.split_fingerprint:
        raise RunError(
            f"{path}: {recipe.data.source} has changed since this run was evaluated; restore the earlier data, or run "
            "again with --overwrite"
        )
    _, engine = load_engine(path)
    after = EvaluationOutcome(record.after, read_predictions(folder.predictions).after)
    reliability = calibrate_and_analyze(recipe, corpus, engine, split, after, folder.adapter)
    record = replace(record, recipe=recipe, reliability=reliability)
    write_recipe(recipe, folder.adapter)
    folder.write_calibration(record)
    write_report_files(record, folder)
    return record
