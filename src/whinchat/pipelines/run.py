"""Run a recipe from its data to a trained, measured and documented classifier in a run folder.

Every stage stores its results in the run folder before the next stage starts, so a run that was killed resumes there.
"""

from contextlib import nullcontext
from pathlib import Path

from whinchat.data.dataset import Split
from whinchat.evaluation.evaluate import EvaluationOutcome, evaluate
from whinchat.models.forward import Engine
from whinchat.pipelines.output_folder import (
    IfExists,
    check_run_folder,
    finished_record,
    hold_run_folder,
    open_run_folder,
    resumed_recipe,
)
from whinchat.pipelines.record import make_manifest, make_record, tracker_metrics
from whinchat.pipelines.reliability_stage import calibrate_and_analyze, text_scorer
from whinchat.pipelines.run_questions import run_questions
from whinchat.pipelines.run_schedule import RunSchedule, plan_stages
from whinchat.progress import logger, stage
from whinchat.recipe.loader import without_home
from whinchat.recipe.schema import Recipe
from whinchat.report.formatting import decision_sentence
from whinchat.report.write import write_report_files
from whinchat.storage.json_records import write_json_record
from whinchat.storage.predictions import read_predictions, write_predictions
from whinchat.storage.questions_record import QuestionsRecord
from whinchat.storage.run_folder import RunFolder
from whinchat.storage.run_record import RunRecord
from whinchat.storage.training_result import TrainingResult
from whinchat.training import distributed
from whinchat.training.launch import process_rank
from whinchat.training.prepare import prepare_run
from whinchat.training.trackers import Trackers
from whinchat.training.train import train


def run(recipe: Recipe, path: str | Path, existing: IfExists = "refuse") -> RunRecord | QuestionsRecord:
    """Evaluate a model, fine-tune it, evaluate it again, and write adapter, figures, report and model card.

    Args:
        recipe: task, data, model and training settings; see ``load_recipe``.
        path: the run folder to write to.
        existing: what to do if ``path`` already holds a run: "refuse" raises an error, "resume" continues the run, or
            reads its record if it is finished, and "overwrite" replaces the run.

    Returns:
        The record of the run: everything that figures, report and model card are made from. A ``QuestionsRecord`` for
        a task with questions.

    Raises:
        RecipeError: the recipe cannot be run.
        DataError: the data cannot be read, or does not fit the task.
        ModelError: the model cannot be loaded, or this machine cannot hold it as the recipe asks.
        RunError: the run folder may not be used, or another process writes into it.
        OutputError: the run folder cannot be written.
    """
    folder = RunFolder(Path(path))
    if (record := finished_record(recipe, folder.path, existing)) is not None:
        return record
    recipe = without_home(recipe)
    with hold_run_folder(folder):
        check_run_folder(recipe, folder.path, existing)
        if existing == "resume" and folder.manifest.is_file():
            folder.sweep()
            return folder.read_record()
        return _run(recipe, folder, existing)


def _run(recipe: Recipe, folder: RunFolder, existing: IfExists) -> RunRecord | QuestionsRecord:
    """Do all stages of a run whose folder this process holds."""
    recipe = resumed_recipe(recipe, folder, existing)
    schedule = RunSchedule()
    with schedule.stage("load"):
        corpus, backbone, template = prepare_run(recipe)
        recipe = recipe.with_date(template.task.date)
        split = corpus.split(recipe.evaluate.split).head(recipe.evaluate.rows)
    open_run_folder(folder, recipe, corpus, existing)
    if recipe.task.questions:
        return run_questions(recipe, folder, schedule, corpus, backbone, template)
    before = _read_before(folder, split)
    untrained = Engine.build(backbone.model, backbone.plan, template)
    has_before = before is not None
    schedule.plan(*plan_stages(recipe, corpus, split, untrained, folder.checkpoints, has_before=has_before))
    if before is None:
        with schedule.stage("before"):
            before = evaluate(untrained, split, recipe.evaluate, "before")
        _write_before(folder, recipe, split, before)
    trackers = Trackers(recipe.train.report_to, folder.trackers)
    with schedule.stage("train"):
        engine, training = train(recipe, corpus, backbone, template, folder.checkpoints, folder.adapter, trackers)
    if training.resumed_from_step:
        # An earlier process did a part of the training, so its total time counts as not measured.
        del schedule.seconds["train"]
    with schedule.stage("after"):
        after = evaluate(engine, split, recipe.evaluate, "after")
    with schedule.stage("trust"):
        calibrator, reliability, after = calibrate_and_analyze(
            recipe, corpus, text_scorer(recipe, engine), split, after
        )
        if calibrator is not None and reliability is not None:
            logger.info(decision_sentence(reliability))
            calibrator.save(folder.adapter)
    outcomes = before, after
    manifest = make_manifest(recipe, corpus, backbone, training, outcomes, schedule.seconds)
    record = make_record(recipe, manifest, corpus, training.history, split, outcomes, reliability)
    trackers.log(tracker_metrics(record))
    trackers.finish()
    with schedule.stage("publish"):
        write_predictions(
            folder.predictions, recipe.task.labels, split.texts, split.labels, before.predictions, after.predictions
        )
        write_report_files(record, folder)
        folder.write(record)
    folder.sweep()
    return record


def train_run(recipe: Recipe, path: str | Path, existing: IfExists = "refuse") -> tuple[RunFolder, TrainingResult]:
    """Fine-tune a model and save the adapter, without any evaluation.

    ``run(recipe, path, "resume")`` evaluates and documents the adapter later, without training again. Processes that
    ``accelerate launch`` starts train together; the first of them writes the files.

    Args:
        recipe: task, data, model and training settings; see ``load_recipe``.
        path: the run folder to write to.
        existing: what to do if ``path`` already holds a run: "refuse", "resume" or "overwrite" it.

    Returns:
        The run folder, and the training log with step and parameter counts.

    Raises:
        WhinchatError: as ``run`` does.
    """
    recipe, folder = without_home(recipe), RunFolder(Path(path))
    # The first of several processes holds the folder for all of them.
    with hold_run_folder(folder) if process_rank() == 0 else nullcontext():
        if process_rank() == 0:
            check_run_folder(recipe, folder.path, existing)
        return _train_run(recipe, folder, existing)


def _train_run(recipe: Recipe, folder: RunFolder, existing: IfExists) -> tuple[RunFolder, TrainingResult]:
    """Train an adapter in a folder that this process, or the first of several, holds."""
    distributed.init_processes(recipe.backbone.device)
    recipe = resumed_recipe(recipe, folder, existing)
    with stage("Load data and model"):
        corpus, backbone, template = prepare_run(recipe)
        # The processes may have started on two days.
        if (day := distributed.first_process_value(template.task.date)) != template.task.date:
            template = backbone.tokenizer.template(recipe.dated(day))
        recipe = recipe.with_date(template.task.date)
    if process_rank() == 0:
        open_run_folder(folder, recipe, corpus, existing)
    trackers = Trackers(recipe.train.report_to, folder.trackers)
    with stage("Train"):
        _, training = train(recipe, corpus, backbone, template, folder.checkpoints, folder.adapter, trackers)
    trackers.finish()
    return folder, training


def _read_before(folder: RunFolder, split: Split) -> EvaluationOutcome | None:
    """Return the stored evaluation of the untrained model, or None if there is none of the rows in ``split``."""
    if not (folder.before.is_file() and folder.before_predictions.is_file()):
        return None
    evaluation = folder.read_evaluation(folder.before)
    if evaluation.split_fingerprint != split.fingerprint():
        return None
    return EvaluationOutcome(evaluation, read_predictions(folder.before_predictions).after)


def _write_before(folder: RunFolder, recipe: Recipe, split: Split, before: EvaluationOutcome) -> None:
    write_predictions(
        folder.before_predictions, recipe.task.labels, split.texts, split.labels, None, before.predictions
    )
    write_json_record(folder.before, before.evaluation)
