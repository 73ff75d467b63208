"""Fit the calibration of a finished run again, for another metric or threshold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from whinchat.data.sources import load_corpus
from whinchat.errors import RunError
from whinchat.evaluation.evaluate import EvaluationOutcome
from whinchat.inference.predictor import load_engine
from whinchat.pipelines.run import analyze_run
from whinchat.recipe.loader import load_recipe, write_recipe
from whinchat.recipe.schema import MetricName
from whinchat.report.write import write_report_files
from whinchat.storage.predictions import read_predictions
from whinchat.storage.run_folder import RunFolder
from whinchat.storage.run_record import RunRecord


def calibrate_run(path: Path, metric: MetricName | None = None, wanted_accuracy: float | None = None) -> RunRecord:
    """Fit probabilities, decision and threshold of a finished run anew, and publish it again; nothing is trained.

    Args:
        path: the run folder.
        metric: what the decision shall serve; None for what it serves.
        wanted_accuracy: as ``evaluate.wanted_accuracy``; 0 for never unsure, None for what it is.

    Raises:
        RunError: the run is not finished, has no validation split, or its data has changed.
    """
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
    after = EvaluationOutcome(record.after, read_predictions(folder.predictions).after)
    record = replace(record, recipe=recipe, reliability=analyze_run(recipe, corpus, engine, split, after, folder))
    write_recipe(recipe, folder.adapter)
    folder.write_calibration(record)
    write_report_files(record, folder)
    return record
