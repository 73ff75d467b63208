"""Calibrate a finished run again, for another metric or another threshold."""

from dataclasses import replace
from pathlib import Path

from whinchat.errors import RunError
from whinchat.evaluation.calibration_file import CALIBRATION_FILE
from whinchat.evaluation.evaluate import EvaluationOutcome
from whinchat.inference.predictor import load_engine
from whinchat.output_files import require_writable
from whinchat.pipelines.record import with_answers
from whinchat.pipelines.reliability_stage import calibrate_and_analyze, text_scorer
from whinchat.pipelines.stored_runs import calibration_rows
from whinchat.progress import logger
from whinchat.recipe.loader import write_recipe
from whinchat.recipe.schema import MetricName
from whinchat.report.formatting import decision_sentence
from whinchat.report.write import write_report_files
from whinchat.storage.folder_update import update_folder
from whinchat.storage.predictions import read_predictions, write_predictions
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
        RunError: the run is not finished, has no validation split, its data has changed since, or another process
            writes into its folder.
        OutputError: the run folder cannot be written. The earlier calibration and report are still whole then.
        RecipeError: ``metric`` or ``wanted_accuracy`` is out of range.
    """
    folder = RunFolder(Path(run))
    with folder.hold_finished():
        require_writable(folder.adapter / CALIBRATION_FILE)
        return _calibrate(folder, metric, wanted_accuracy)


def _calibrate(folder: RunFolder, metric: MetricName | None, wanted_accuracy: float | None) -> RunRecord:
    """Calibrate the run in ``folder``, which this process holds."""
    path = folder.path
    record, recipe, corpus, split = calibration_rows(folder, metric, wanted_accuracy)
    _, engine = load_engine(path)
    stored = read_predictions(folder.predictions)
    if stored.before is None:
        raise RunError(f"{folder.predictions}: holds no predictions before training; run again with --overwrite")
    before, after = EvaluationOutcome(record.before, stored.before), EvaluationOutcome(record.after, stored.after)
    calibrator, reliability, after = calibrate_and_analyze(recipe, corpus, text_scorer(recipe, engine), split, after)
    assert calibrator is not None, "there is a validation split"
    assert reliability is not None
    logger.info(decision_sentence(reliability))
    record = with_answers(replace(record, recipe=recipe, reliability=reliability), corpus, split, (before, after))
    # Answers, recipe, figures and report change together.
    with update_folder(path) as changed:
        new = RunFolder(changed)
        calibrator.save(new.adapter, folder.adapter)
        write_recipe(recipe, new.adapter)
        new.write_calibration(record)
        write_predictions(
            new.predictions, stored.labels, stored.texts, stored.expected, before.predictions, after.predictions
        )
        write_report_files(record, new)
    return record
