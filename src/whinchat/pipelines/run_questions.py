"""The stages of a run whose task asks several questions: one adapter, and evidence for each question.

Every decision is measured like a task with labels, on the rows that have an answer to it, and its evidence stands in a
folder of its own, laid out like a run folder. The metrics of the questions stand in ``questions.json``.
"""

from collections.abc import Sequence

from whinchat.data.dataset import Corpus
from whinchat.evaluation.calibrator import save_calibrators
from whinchat.evaluation.evaluate import EvaluationOutcome
from whinchat.evaluation.joint_scoring import decision_engines
from whinchat.evaluation.question_scores import QuestionScorer, evaluate_questions
from whinchat.models.backbone import Backbone
from whinchat.models.forward import Engine
from whinchat.output_files import writing
from whinchat.pipelines.decision_stages import (
    AnalyzedDecision,
    DecisionStage,
    analyze_decisions,
    decision_stages,
    measure_questions,
    write_decision_report,
)
from whinchat.pipelines.record import make_manifest, make_record
from whinchat.pipelines.run_schedule import RunSchedule, plan_stages
from whinchat.prompts.template import PromptTemplate
from whinchat.recipe.schema import Recipe
from whinchat.report.question_pages import write_question_pages
from whinchat.storage.json_records import write_json_record
from whinchat.storage.predictions import read_predictions, write_predictions
from whinchat.storage.questions_record import QuestionsRecord
from whinchat.storage.run_folder import RunFolder
from whinchat.storage.training_result import TrainingResult
from whinchat.training.trackers import Trackers
from whinchat.training.train import train


def run_questions(
    recipe: Recipe,
    folder: RunFolder,
    schedule: RunSchedule,
    corpus: Corpus,
    backbone: Backbone,
    template: PromptTemplate,
) -> QuestionsRecord:
    """Do all stages of a run after loading; the caller holds the folder, into which the recipe is written already.

    Args:
        recipe: the recipe, with questions.
        folder: the run folder.
        schedule: measures the stages.
        corpus, backbone, template: what ``prepare_run`` returns.

    Raises:
        DataError: a decision has no evaluated row, or no validation row.
    """
    split = corpus.split(recipe.evaluate.split).head(recipe.evaluate.rows)
    stages = decision_stages(recipe, corpus, split, folder)
    untrained = Engine.build(backbone.model, backbone.plan, template)
    before = _read_before(stages)
    has_before = before is not None
    schedule.plan(*plan_stages(recipe, corpus, split, untrained, folder.checkpoints, has_before=has_before))
    if before is None:
        with schedule.stage("before"):
            before = evaluate_questions(decision_engines(untrained, recipe.task), split, recipe.evaluate, "before")
        _write_before(stages, before)
    trackers = Trackers(recipe.train.report_to, folder.trackers)
    with schedule.stage("train"):
        engine, training = train(recipe, corpus, backbone, template, folder.checkpoints, folder.adapter, trackers)
    if training.resumed_from_step:
        # An earlier process did a part of the training, so its total time counts as not measured.
        del schedule.seconds["train"]
    engines = decision_engines(engine, recipe.task)
    with schedule.stage("after"):
        after = evaluate_questions(engines, split, recipe.evaluate, "after")
    with schedule.stage("trust"):
        scorer = QuestionScorer(engines, recipe.evaluate.per_device_eval_batch_size)
        analyzed = analyze_decisions(stages, scorer, tuple(zip(before, after, strict=True)))
        if calibrators := [one.calibrator for one in analyzed if one.calibrator is not None]:
            save_calibrators(calibrators, recipe.task.decisions, folder.adapter)
    questions = measure_questions(recipe, corpus, split, analyzed)
    manifest = make_manifest(recipe, corpus, backbone, training, analyzed[0].outcomes, schedule.seconds)
    record = QuestionsRecord(recipe, manifest, training.history, questions)
    trackers.log(_tracker_metrics(record))
    trackers.finish()
    with schedule.stage("publish"):
        for stage, one in zip(stages, analyzed, strict=True):
            _write_evidence(stage, one, backbone, training, schedule.seconds)
        write_question_pages(record, folder)
        folder.write_questions(record)
    folder.sweep()
    return record


def _read_before(stages: Sequence[DecisionStage]) -> list[EvaluationOutcome] | None:
    """Return the stored evaluations of the untrained model, or None unless there is one of each decision's rows."""
    outcomes = []
    for stage in stages:
        if not (stage.folder.before.is_file() and stage.folder.before_predictions.is_file()):
            return None
        evaluation = stage.folder.read_evaluation(stage.folder.before)
        if evaluation.split_fingerprint != stage.split.fingerprint():
            return None
        outcomes.append(EvaluationOutcome(evaluation, read_predictions(stage.folder.before_predictions).after))
    return outcomes


def _write_before(stages: Sequence[DecisionStage], before: Sequence[EvaluationOutcome]) -> None:
    for stage, outcome in zip(stages, before, strict=True):
        folder, split = stage.folder, stage.split
        with writing(folder.path):
            folder.path.mkdir(parents=True, exist_ok=True)
        write_predictions(
            folder.before_predictions, stage.decision.labels, split.texts, split.labels, None, outcome.predictions
        )
        write_json_record(folder.before, outcome.evaluation)


def _write_evidence(
    stage: DecisionStage,
    one: AnalyzedDecision,
    backbone: Backbone,
    training: TrainingResult,
    seconds: dict[str, float],
) -> None:
    """Write the evidence of a decision; without a report for an option, of which there may be hundreds."""
    folder, split, (before, after) = stage.folder, stage.split, one.outcomes
    manifest = make_manifest(stage.recipe, stage.corpus, backbone, training, one.outcomes, seconds)
    record = make_record(
        stage.recipe, manifest, stage.corpus, training.history, split, one.outcomes, one.reliability, one.simple
    )
    write_predictions(
        folder.predictions, stage.decision.labels, split.texts, split.labels, before.predictions, after.predictions
    )
    if stage.decision.option is None:
        write_decision_report(record, folder)
    folder.write(record)
    folder.sweep()


def _tracker_metrics(record: QuestionsRecord) -> dict[str, float]:
    """Return the metrics that experiment trackers log, such as ``eval_after_urgency_mae``."""
    prefix = "test" if record.split == "test" else "eval"
    return {
        f"{prefix}_{when}_{question.name}_{name}": value
        for question in record.questions
        for when, metrics in (
            ("before", question.before),
            ("after", question.after),
            ("calibrated", question.calibrated),
        )
        if metrics is not None
        for name, value in metrics.values.items()
        if value is not None
    }
