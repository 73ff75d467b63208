"""Review the labels of the training split: find rows whose label is probably wrong.

The training split is divided into folds. For each fold, a model is fine-tuned on the other folds with the recipe's own
settings and scores the fold, so that no row is scored by a model that has seen it. A review that was killed resumes at
the last checkpoint of the fold that was being trained.
"""

import gc
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from whinchat.data.dataset import Corpus, Split
from whinchat.data.learned_texts import count_learned
from whinchat.data.sources import load_corpus, source_rows
from whinchat.data.splits import make_folds
from whinchat.errors import RunError
from whinchat.evaluation.joint_scoring import decision_engines
from whinchat.evaluation.label_noise import FoldRecord, Review, ReviewedRow, reviewed_rows
from whinchat.evaluation.question_review import (
    DecisionReview,
    QuestionReview,
    QuestionsReview,
    ReviewedAnswer,
    disagreements,
    reviewed_answers,
)
from whinchat.evaluation.question_scores import score_answered
from whinchat.evaluation.scoring import score_prompts
from whinchat.evaluation.wrong_labels import find_wrong_labels
from whinchat.models.backbone import Backbone
from whinchat.pipelines.output_folder import IfExists
from whinchat.prompts.template import PromptTemplate
from whinchat.recipe.loader import without_home
from whinchat.recipe.question import Decision
from whinchat.recipe.schema import Recipe
from whinchat.storage.review_folder import AnyReview, FoldFolder, ReviewFolder, ReviewPlan, check_review_folder
from whinchat.training.prepare import prepare_training
from whinchat.training.train import train

# The label scores of one fold, (rows of the fold, labels), and how they were computed. With questions, the labels are
# those of all decisions, side by side.
FoldResult = tuple[NDArray[np.float32], FoldRecord]
Scores = NDArray[np.float64]


@dataclass(frozen=True)
class FoldScores:
    """The results of all folds.

    Attributes:
        scores: the out-of-fold scores of every training row, (rows, labels).
        records: one record for each fold.
    """

    scores: Scores
    records: tuple[FoldRecord, ...]

    @classmethod
    def of(cls, fold_rows: Sequence[Sequence[int]], results: Sequence[FoldResult]) -> Self:
        """Bring the results of folds, whose rows are ``fold_rows``, into the order of the training rows."""
        scores = np.empty((sum(map(len, fold_rows)), results[0][0].shape[1]))
        for rows, (fold_scores, _) in zip(fold_rows, results, strict=True):
            scores[list(rows)] = fold_scores
        return cls(scores, tuple(record for _, record in results))

    @property
    def seconds(self) -> float | None:
        """Wall-clock time of all folds; None where a fold was interrupted and resumed."""
        seconds = [record.seconds for record in self.records if record.seconds is not None]
        return sum(seconds) if len(seconds) == len(self.records) else None


def review_run(recipe: Recipe, path: str | Path, folds: int = 3, existing: IfExists = "refuse") -> AnyReview:
    """Score every training row with a model that was trained without it, and list the rows whose label looks wrong.

    Args:
        recipe: data, model and training settings; its training split is reviewed.
        path: the review folder to write to.
        folds: number of parts that the training split is divided into, at least 2. With more folds, each model is
            trained on more rows, and the review takes longer.
        existing: what to do if ``path`` already holds a review: "refuse" raises an error, "resume" continues the
            review, or reads it if it is finished, and "overwrite" replaces it.

    Returns:
        The summary of the review, and all training rows. The rows that the models disagree with most come first. With
        questions, a ``QuestionsReview`` and every given answer.

    Raises:
        RunError: ``folds`` is too small, the review folder may not be used, or model or data have changed since the
            review began.
        OutputError: the review folder cannot be written.
        WhinchatError: the recipe cannot be run, as in ``run``.
    """
    if folds < 2:
        raise RunError(f"--folds {folds}: each fold is scored by a model trained on the other folds; give 2 or more")
    recipe, folder = without_home(recipe), ReviewFolder(Path(path))
    if existing == "resume" and folder.review.is_file():
        # Nothing is written, so the folder need not be held.
        check_review_folder(recipe, folds, folder, existing)
        return folder.read_finished()
    with folder.hold():
        check_review_folder(recipe, folds, folder, existing)
        return _review(recipe, folder, folds, existing)


def _review(recipe: Recipe, folder: ReviewFolder, folds: int, existing: IfExists) -> AnyReview:
    """Do a review in a folder that this process holds."""
    if existing != "overwrite" and folder.review.is_file():
        return folder.read_finished()
    corpus = load_corpus(recipe)
    learned = count_learned(recipe.backbone.model, corpus.train)
    if learned:
        logging.getLogger("whinchat").warning(
            f"{recipe.backbone.model} has learned {learned:,} of the {len(corpus.train):,} training texts before, "
            "so it agrees too readily with their labels; begin with a model that has not"
        )
    row_numbers = source_rows(recipe, corpus.train)
    fold_rows = make_folds(corpus.train, recipe.task, folds, recipe.data.split_seed, corpus.source)
    plan, results = _score_folds(recipe, corpus, fold_rows, folder, existing)
    compare = _review_questions if recipe.task.questions else _review_labels
    provenance = _provenance(recipe, plan, learned)
    found = compare(recipe, corpus, row_numbers, provenance, FoldScores.of(fold_rows, results))
    folder.write(*found)
    return found


def _score_folds(
    recipe: Recipe, corpus: Corpus, fold_rows: Sequence[Sequence[int]], folder: ReviewFolder, existing: IfExists
) -> tuple[ReviewPlan, list[FoldResult]]:
    """Return the plan of the review and the result of each fold; a fold with a stored result is not scored again."""
    plan = folder.read_plan() if existing != "overwrite" and folder.plan.is_file() else None
    if plan and plan.train_fingerprint != corpus.train.fingerprint():
        raise RunError(f"{folder.path}: {corpus.source} has changed since the review began; use --overwrite")
    if plan:
        recipe = recipe.dated(plan.recipe.task.date)
    stored = [folder.read_fold(number) if plan else None for number in range(len(fold_rows))]
    # Prepared before anything is written or deleted, so that an error in the recipe loses nothing.
    prepared = prepare_training(recipe, corpus) if None in stored else None
    model_commit = prepared[0].source.commit if prepared else None
    if prepared:
        recipe = recipe.with_date(prepared[1].task.date)
    if plan is None:
        plan = ReviewPlan(recipe, len(fold_rows), corpus.train.fingerprint(), corpus.revision, model_commit)
        if existing == "overwrite":
            folder.clear()
        folder.open(plan)
    elif prepared and model_commit != plan.model_commit:
        raise RunError(f"{folder.path}: {recipe.backbone.model} has changed since the review began; use --overwrite")
    results: list[FoldResult] = []
    for number, rows in enumerate(fold_rows):
        if (result := stored[number]) is None:
            # An adapter changes the model that it is attached to, so every fold loads the model anew.
            prepared = prepared or prepare_training(recipe, corpus)
            result = _score_fold(recipe, corpus, rows, folder.fold(number), prepared)
            folder.write_fold(number, *result)
            # Trainer and model refer to each other, so their memory is freed by the garbage collector only.
            prepared = None
            gc.collect()
        results.append(result)
    return plan, results


def _score_fold(
    recipe: Recipe, corpus: Corpus, rows: Sequence[int], folder: FoldFolder, prepared: tuple[Backbone, PromptTemplate]
) -> FoldResult:
    """Train on all training rows except ``rows``, and score ``rows``."""
    started = time.perf_counter()
    backbone, template = prepared
    held_out = set(rows)
    others = corpus.train.take([row for row in range(len(corpus.train)) if row not in held_out])
    fold = corpus.train.take(list(rows))
    # Soft labels may come from a model that was trained on the labels under review.
    train_corpus = replace(corpus, train=others, soft=None)
    engine, training = train(recipe, train_corpus, backbone, template, folder.checkpoints, folder.adapter)
    batch_size, title = recipe.evaluate.per_device_eval_batch_size, f"Scoring fold {folder.path.name}"
    if recipe.task.questions:
        engines = decision_engines(engine, recipe.task)
        prompts = [own.template.encode(fold.texts) for own in engines]
        scores = np.concatenate(score_answered(engines, prompts, fold, batch_size, title), axis=1)
    else:
        scores = score_prompts(engine, template.encode(fold.texts), batch_size, title, labels_only=True)
    seconds = None if training.resumed_from_step else time.perf_counter() - started
    return scores, FoldRecord(len(fold), fold.fingerprint(), len(others), training.steps, seconds)


def _review_labels(
    recipe: Recipe, corpus: Corpus, row_numbers: Sequence[int], provenance: Mapping[str, Any], folds: FoldScores
) -> tuple[Review, list[ReviewedRow]]:
    """Compare the labels of the training split with the out-of-fold scores.

    Args:
        recipe: the recipe of the review.
        corpus: its data set.
        row_numbers: the number of each training row in the data source.
        provenance: what ``_provenance`` returns.
        folds: the scores of every training row, and the records of the folds.
    """
    labels, expected = recipe.task.labels, np.array(corpus.train.labels)
    found = find_wrong_labels(folds.scores, expected, labels)
    review = Review(
        **provenance,
        rows=len(expected),
        labels=labels,
        folds=folds.records,
        temperature=found.temperature,
        accuracy=found.accuracy,
        macro_f1=found.macro_f1,
        thresholds=tuple(found.noise.thresholds.tolist()),
        suspects=found.suspects,
        estimated_errors=found.estimated_errors,
        pairs=found.pairs,
        seconds=folds.seconds,
    )
    rows = reviewed_rows(found.noise, found.probabilities, expected, corpus.train.texts, row_numbers, labels)
    return review, list(rows)


def _review_questions(
    recipe: Recipe, corpus: Corpus, row_numbers: Sequence[int], provenance: Mapping[str, Any], folds: FoldScores
) -> tuple[QuestionsReview, list[ReviewedAnswer]]:
    """Compare the answers of the training split with the out-of-fold scores; arguments as for ``_review_labels``."""
    task = recipe.task
    ends = np.cumsum([len(decision.labels) for decision in task.decisions])
    columns = np.split(folds.scores, ends[:-1], axis=1)
    reviewed: list[ReviewedAnswer] = []
    reviews: dict[str, list[DecisionReview]] = {name: [] for name in task.questions}
    for index, (decision, scores) in enumerate(zip(task.decisions, columns, strict=True)):
        review, rows = _review_decision(decision, index, corpus.train, scores, row_numbers)
        reviews[decision.question].append(review)
        reviewed += rows
    questions = tuple(
        QuestionReview.of_decisions(name, question.type, reviews[name]) for name, question in task.questions.items()
    )
    summary = QuestionsReview(
        **provenance,
        rows=len(corpus.train),
        folds=folds.records,
        questions=questions,
        seconds=folds.seconds,
    )
    return summary, sorted(reviewed, key=lambda row: -row.disagreement)


def _review_decision(
    decision: Decision, index: int, train: Split, scores: Scores, row_numbers: Sequence[int]
) -> tuple[DecisionReview, list[ReviewedAnswer]]:
    """Compare the given answers to one decision, by its index, with the out-of-fold scores (rows, K).

    Rows without an answer, and those whose answer is shares, are left out.
    """
    answers = [own[index] for own in train.answers]
    rows = [row for row, answer in enumerate(answers) if isinstance(answer, int)]
    missing = answers.count(None)
    shares = len(answers) - len(rows) - missing
    labels, given = decision.labels, np.array([answers[row] for row in rows], dtype=np.int64)
    if not rows:
        unmeasured = None, None, None, None
        thresholds = (None,) * len(labels)
        counts = 0, missing, shares
        return DecisionReview(decision.option, labels, *counts, *unmeasured, thresholds, 0, 0.0, ()), []
    found = find_wrong_labels(scores[rows], given, labels)
    review = DecisionReview(
        decision.option,
        labels,
        len(rows),
        missing,
        shares,
        found.temperature,
        found.accuracy,
        found.macro_f1,
        float(np.bincount(given).max() / len(given)),
        tuple(one if np.isfinite(one) else None for one in found.noise.thresholds.tolist()),
        found.suspects,
        found.estimated_errors,
        found.pairs,
    )
    texts, numbers = [train.texts[row] for row in rows], [row_numbers[row] for row in rows]
    ranked = reviewed_rows(found.noise, found.probabilities, given, texts, numbers, labels)
    strengths = disagreements(found.noise, found.probabilities, given)[found.noise.ranked]
    return review, reviewed_answers(decision, ranked, strengths.tolist())


def _provenance(recipe: Recipe, plan: ReviewPlan, learned_texts: int | None) -> dict[str, Any]:
    """Return the versions behind a review, and how many of its texts the model had learned before."""
    return {
        "whinchat_version": version("whinchat"),
        "model_source": recipe.backbone.model,
        "model_commit": plan.model_commit,
        "data_source": recipe.data.source,
        "data_revision": plan.data_revision,
        "train_fingerprint": plan.train_fingerprint,
        "learned_texts": learned_texts,
    }
