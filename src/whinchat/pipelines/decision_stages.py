"""What a run with questions, and a new calibration, do for each decision: calibrate, analyze, measure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from whinchat.data.dataset import Corpus, Split
from whinchat.errors import DataError
from whinchat.evaluation.calibrator import Calibrator
from whinchat.evaluation.counted_texts import CountedTexts
from whinchat.evaluation.evaluate import EvaluationOutcome
from whinchat.evaluation.question_answers import DecisionAnswers, decision_answers
from whinchat.evaluation.question_metrics import measure_question
from whinchat.evaluation.question_results import QuestionResult, QuestionsEvidence
from whinchat.evaluation.question_scores import QuestionScorer
from whinchat.evaluation.results import ReliabilityReport
from whinchat.evaluation.simple_methods import SimpleAnswers, answer_simply, count_texts
from whinchat.pipelines.reliability_stage import calibrate_and_analyze
from whinchat.progress import logger
from whinchat.recipe.question import Decision
from whinchat.recipe.schema import Recipe
from whinchat.report.formatting import decision_sentence
from whinchat.report.html import render_report
from whinchat.storage.atomic import write_text
from whinchat.storage.questions_record import all_decision_folders
from whinchat.storage.run_folder import RunFolder
from whinchat.storage.run_record import RunRecord


@dataclass(frozen=True)
class DecisionStage:
    """One decision of a run.

    Attributes:
        decision: the decision.
        recipe: the recipe of the decision alone.
        corpus: the rows that have an answer to it.
        split: those of the evaluated rows.
        folder: where its evidence goes.
    """

    decision: Decision
    recipe: Recipe
    corpus: Corpus
    split: Split
    folder: RunFolder


@dataclass(frozen=True)
class AnalyzedDecision:
    """What was measured of a decision: evaluations before and after training, and how its answers are calibrated."""

    outcomes: tuple[EvaluationOutcome, EvaluationOutcome]
    calibrator: Calibrator | None
    reliability: ReliabilityReport | None
    simple: tuple[SimpleAnswers, ...]


def decision_stages(recipe: Recipe, corpus: Corpus, split: Split, folder: RunFolder) -> list[DecisionStage]:
    """Return the stage of each decision.

    Args:
        recipe: a recipe with questions.
        corpus: its data.
        split: the evaluated rows.
        folder: the run folder.

    Raises:
        DataError: a decision has no evaluated row, or no validation row.
    """
    paths = all_decision_folders(recipe.task.questions)
    return [_stage(recipe, corpus, split, index, RunFolder(folder.path / path)) for index, path in enumerate(paths)]


def _stage(recipe: Recipe, corpus: Corpus, split: Split, index: int, folder: RunFolder) -> DecisionStage:
    """Return the stage of a decision by its index, whose evidence goes to ``folder``."""
    decision = recipe.task.decisions[index]
    validation, test = (None if part is None else part.of_decision(index) for part in (corpus.validation, corpus.test))
    own = split.of_decision(index)
    for part in (validation, own):
        if part is not None and not len(part):
            raise DataError(
                f"{corpus.source}: no row of the {part.name} split has an answer to {decision.title}; take more rows, "
                "or take the question out of the recipe"
            )
    return DecisionStage(
        decision,
        recipe.of_decision(decision),
        replace(corpus, train=corpus.train.of_decision(index), validation=validation, test=test),
        own,
        folder,
    )


def analyze_decisions(
    stages: Sequence[DecisionStage],
    scorer: QuestionScorer,
    outcomes: Sequence[tuple[EvaluationOutcome, EvaluationOutcome]],
) -> list[AnalyzedDecision]:
    """Calibrate each decision on its validation rows, and measure its answers.

    Args:
        stages: the decisions.
        scorer: scores texts with the trained model.
        outcomes: the evaluations of each decision before and after training.
    """
    train = (text for stage in stages for text in stage.corpus.train.texts)
    texts = (text for stage in stages for text in stage.split.texts)
    counted = count_texts(stages[0].recipe, train, texts)
    return [
        _analyze(stage, scorer, index, own, counted)
        for index, (stage, own) in enumerate(zip(stages, outcomes, strict=True))
    ]


def _analyze(
    stage: DecisionStage,
    scorer: QuestionScorer,
    index: int,
    outcomes: tuple[EvaluationOutcome, EvaluationOutcome],
    counted: CountedTexts,
) -> AnalyzedDecision:
    before, after = outcomes
    score_texts = partial(scorer.score, decision=index)
    calibrator, reliability, after = calibrate_and_analyze(stage.recipe, stage.corpus, score_texts, stage.split, after)
    if reliability is not None:
        logger.info("%s: %s", stage.decision.title, decision_sentence(reliability))
    simple = answer_simply(stage.recipe, stage.corpus.train, stage.split.texts, counted)
    return AnalyzedDecision((before, after), calibrator, reliability, simple)


def measure_questions(
    recipe: Recipe, corpus: Corpus, split: Split, analyzed: Sequence[AnalyzedDecision]
) -> QuestionsEvidence:
    """Return the metrics of each question by its type; arguments as for ``decision_stages``."""
    return tuple(_measure(name, recipe, corpus, split, analyzed) for name in recipe.task.questions)


def _measure(
    name: str, recipe: Recipe, corpus: Corpus, split: Split, analyzed: Sequence[AnalyzedDecision]
) -> QuestionResult:
    """Return the metrics of the question called ``name``."""
    decisions: list[DecisionAnswers] = [
        decision_answers(
            split,
            index,
            one.outcomes,
            one.calibrator,
            None if one.reliability is None else one.reliability.fitted_on,
            one.simple,
        )
        for index, one in enumerate(analyzed)
        if recipe.task.decisions[index].question == name
    ]
    splits = [part for part in (corpus.train, corpus.validation, corpus.test) if part is not None]
    return measure_question(recipe.task, name, splits, split, decisions, recipe.evaluate)


def write_decision_report(record: RunRecord, folder: RunFolder) -> None:
    """Write the report of a decision, which links to that of the whole run, into its folder."""
    write_text(folder.report, render_report(record, part_of=f"../../{folder.report.name}"))
