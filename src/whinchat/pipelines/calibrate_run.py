"""Calibrate a finished run again, for another metric or another threshold."""

from dataclasses import replace
from pathlib import Path

from whinchat.data.dataset import Corpus, Split
from whinchat.errors import RunError
from whinchat.evaluation.calibration_file import CALIBRATION_FILE
from whinchat.evaluation.calibrator import save_calibrators
from whinchat.evaluation.cascade_results import CASCADE_FILE, CascadeFacts
from whinchat.evaluation.evaluate import EvaluationOutcome
from whinchat.evaluation.joint_scoring import decision_engines
from whinchat.evaluation.question_scores import QuestionScorer
from whinchat.inference.predictor import load_engine
from whinchat.models.forward import Engine
from whinchat.output_files import require_writable
from whinchat.pipelines.decision_stages import (
    analyze_decisions,
    decision_stages,
    measure_questions,
    write_decision_report,
)
from whinchat.pipelines.record import with_answers
from whinchat.pipelines.reliability_stage import calibrate_and_analyze, text_scorer
from whinchat.pipelines.stored_runs import calibration_rows
from whinchat.progress import logger
from whinchat.recipe.loader import write_recipe
from whinchat.recipe.schema import MetricName, Recipe
from whinchat.report.card import build_card
from whinchat.report.formatting import decision_sentence
from whinchat.report.question_pages import write_question_pages
from whinchat.report.write import write_report_files
from whinchat.storage.atomic import write_text
from whinchat.storage.folder_update import update_folder
from whinchat.storage.json_records import write_json_record
from whinchat.storage.predictions import read_predictions, write_predictions
from whinchat.storage.questions_record import QuestionsRecord
from whinchat.storage.run_folder import RunFolder
from whinchat.storage.run_record import RunRecord
from whinchat.storage.student_files import calibration_digest, usable_student


def calibrate_run(
    run: str | Path, metric: MetricName | None = None, wanted_accuracy: float | None = None
) -> RunRecord | QuestionsRecord:
    """Fit the calibration of a finished run again, and rewrite its report and model card. Nothing is trained.

    Args:
        run: the run folder.
        metric: the metric that calibrated answers maximize, as ``evaluate.metric``; None keeps the run's own. With
            questions, the answers to each decision, between no and yes for each option of ``multi``.
        wanted_accuracy: the accuracy that answers shall reach, as ``evaluate.wanted_accuracy``: answers below the
            threshold that this takes are marked as unsure. 0 marks none; None keeps the run's own.

    Returns:
        The record of the run with the new calibration; a ``QuestionsRecord`` for a task with questions.

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


def _calibrate(
    folder: RunFolder, metric: MetricName | None, wanted_accuracy: float | None
) -> RunRecord | QuestionsRecord:
    """Calibrate the run in ``folder``, which this process holds."""
    record, recipe, corpus, split = calibration_rows(folder, metric, wanted_accuracy)
    _, engine = load_engine(folder.path, with_questions=True)
    if isinstance(record, QuestionsRecord):
        return _calibrate_questions(folder, record, recipe, corpus, split, engine)
    return _calibrate_labels(folder, record, recipe, corpus, split, engine)


def _calibrate_labels(
    folder: RunFolder, record: RunRecord, recipe: Recipe, corpus: Corpus, split: Split, engine: Engine
) -> RunRecord:
    """Calibrate a run whose task has labels; ``recipe`` has the new settings."""
    outcomes = _stored_outcomes(folder, record)
    calibrator, reliability, after = calibrate_and_analyze(
        recipe, corpus, text_scorer(recipe, engine), split, outcomes[1]
    )
    assert calibrator is not None, "there is a validation split"
    assert reliability is not None
    logger.info(decision_sentence(reliability))
    outcomes = outcomes[0], after
    record = with_answers(replace(record, recipe=recipe, reliability=reliability), corpus, split, outcomes)
    # Answers, recipe, figures and report change together.
    with update_folder(folder.path) as changed:
        new = RunFolder(changed)
        calibrator.save(new.adapter, folder.adapter)
        record = replace(record, cascade=_student_of(new.adapter, folder))
        write_recipe(recipe, new.adapter)
        _write_answers(new, record, split, outcomes)
        write_report_files(record, new)
    return record


def _calibrate_questions(
    folder: RunFolder, record: QuestionsRecord, recipe: Recipe, corpus: Corpus, split: Split, engine: Engine
) -> QuestionsRecord:
    """Calibrate each decision of a run whose task asks questions; ``recipe`` has the new settings."""
    stages = decision_stages(recipe, corpus, split, folder)
    stored = [stage.folder.read() for stage in stages]
    outcomes = [_stored_outcomes(stage.folder, own) for stage, own in zip(stages, stored, strict=True)]
    scorer = QuestionScorer(decision_engines(engine, recipe.task), recipe.evaluate.per_device_eval_batch_size)
    analyzed = analyze_decisions(stages, scorer, outcomes)
    record = replace(record, recipe=recipe, questions=measure_questions(recipe, corpus, split, analyzed))
    with update_folder(folder.path) as changed:
        new = RunFolder(changed)
        calibrators = [one.calibrator for one in analyzed if one.calibrator is not None]
        save_calibrators(calibrators, recipe.task.decisions, new.adapter, folder.adapter)
        record = replace(record, cascade=_student_of(new.adapter, folder))
        write_recipe(recipe, new.adapter)
        for stage, earlier, one in zip(stages, stored, analyzed, strict=True):
            own = replace(earlier, recipe=stage.recipe, reliability=one.reliability)
            own = with_answers(own, stage.corpus, stage.split, one.outcomes, one.simple)
            inner = RunFolder(changed / stage.folder.path.relative_to(folder.path))
            _write_answers(inner, own, stage.split, one.outcomes)
            if stage.folder.report.is_file():
                write_decision_report(own, inner)
            if stage.folder.card.is_file():  # by `whinchat compare`
                write_text(inner.card, str(build_card(own)))
        new.write_recipe(recipe)
        write_json_record(new.questions, record.questions)
        write_question_pages(record, new)
    return record


def _student_of(calibrated: Path, folder: RunFolder) -> CascadeFacts | None:
    """Return the student of the run in ``folder`` if it fits the calibration in ``calibrated``; else warn of it.

    Card and report then name no student, for the classifier cannot be used with it.
    """
    facts = usable_student(folder.adapter, calibration_digest(calibrated))
    if facts is None and (folder.adapter / CASCADE_FILE).is_file():
        logger.warning(
            f"{folder.path}: its student imitates the answers of the earlier calibration; `whinchat distill "
            f"{folder.path}` makes a new one, and `whinchat distill {folder.path} --remove` removes it"
        )
    return facts


def _stored_outcomes(folder: RunFolder, record: RunRecord) -> tuple[EvaluationOutcome, EvaluationOutcome]:
    """Return the stored evaluations before and after training, with their predictions."""
    stored = read_predictions(folder.predictions)
    if stored.before is None:
        raise RunError(f"{folder.predictions}: holds no predictions before training; run again with --overwrite")
    return EvaluationOutcome(record.before, stored.before), EvaluationOutcome(record.after, stored.after)


def _write_answers(
    folder: RunFolder, record: RunRecord, split: Split, outcomes: tuple[EvaluationOutcome, EvaluationOutcome]
) -> None:
    """Write the evidence that a new calibration changes, and every answer."""
    before, after = outcomes
    folder.write_calibration(record)
    write_predictions(
        folder.predictions,
        record.recipe.task.labels,
        split.texts,
        split.labels,
        before.predictions,
        after.predictions,
    )
