"""Review the labels of the training split: find rows whose label is probably wrong.

The training split is divided into folds. For each fold, a model is fine-tuned on the other folds with the recipe's own
settings and scores the fold, so that no row is scored by a model that has seen it. A review that was killed resumes at
the last checkpoint of the fold that was being trained.
"""

import gc
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score

from whinchat.data.dataset import Corpus
from whinchat.data.sources import load_corpus, source_rows
from whinchat.data.splits import make_folds
from whinchat.errors import RunError
from whinchat.evaluation.calibration import fit_temperature
from whinchat.evaluation.calibrator import Calibrator
from whinchat.evaluation.label_noise import (
    FoldRecord,
    Review,
    ReviewedRow,
    find_label_noise,
    label_pairs,
    reviewed_rows,
)
from whinchat.evaluation.scoring import score_prompts
from whinchat.models.backbone import Backbone
from whinchat.pipelines.output_folder import IfExists
from whinchat.prompts.template import PromptTemplate
from whinchat.recipe.loader import without_home
from whinchat.recipe.schema import Recipe
from whinchat.storage.review_folder import FoldFolder, ReviewFolder, ReviewPlan, check_review_folder
from whinchat.training.prepare import prepare_training
from whinchat.training.train import train

# The label scores of one fold, (rows of the fold, labels), and how they were computed.
FoldResult = tuple[NDArray[np.float32], FoldRecord]


def review_run(
    recipe: Recipe, path: str | Path, folds: int = 3, existing: IfExists = "refuse"
) -> tuple[Review, list[ReviewedRow]]:
    """Score every training row with a model that was trained without it, and list the rows whose label looks wrong.

    Args:
        recipe: data, model and training settings; its training split is reviewed.
        path: the review folder to write to.
        folds: number of parts that the training split is divided into, at least 2. With more folds, each model is
            trained on more rows, and the review takes longer.
        existing: what to do if ``path`` already holds a review: "refuse" raises an error, "resume" continues the
            review, or reads it if it is finished, and "overwrite" replaces it.

    Returns:
        The summary of the review, and all training rows. The rows that the models disagree with most come first.

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
        return folder.read(), list(folder.read_rows())
    with folder.hold():
        check_review_folder(recipe, folds, folder, existing)
        return _review(recipe, folder, folds, existing)


def _review(recipe: Recipe, folder: ReviewFolder, folds: int, existing: IfExists) -> tuple[Review, list[ReviewedRow]]:
    """Do a review in a folder that this process holds."""
    if existing != "overwrite" and folder.review.is_file():
        return folder.read(), list(folder.read_rows())
    corpus = load_corpus(recipe)
    row_numbers = source_rows(recipe, corpus.train)
    fold_rows = make_folds(
        corpus.train, recipe.task.labels, folds, recipe.data.split_seed, corpus.source, recipe.task.clean
    )
    plan, results = _score_folds(recipe, corpus, fold_rows, folder, existing)
    review, reviewed = _review_labels(recipe, corpus, row_numbers, fold_rows, plan, results)
    folder.write(review, reviewed)
    return review, list(reviewed)


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
        recipe = recipe.model_copy(update={"task": prepared[1].task})
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
    train_corpus = replace(corpus, train=others)
    engine, training = train(recipe, train_corpus, backbone, template, folder.checkpoints, folder.adapter)
    prompts, batch_size = template.encode(fold.texts), recipe.evaluate.per_device_eval_batch_size
    scores = score_prompts(engine, prompts, batch_size, f"Scoring fold {folder.path.name}", labels_only=True)
    seconds = None if training.resumed_from_step else time.perf_counter() - started
    return scores, FoldRecord(len(fold), fold.fingerprint(), len(others), training.steps, seconds)


def _review_labels(
    recipe: Recipe,
    corpus: Corpus,
    row_numbers: Sequence[int],
    fold_rows: Sequence[Sequence[int]],
    plan: ReviewPlan,
    results: Sequence[FoldResult],
) -> tuple[Review, tuple[ReviewedRow, ...]]:
    """Compare the labels of the training split with the out-of-fold scores.

    Args:
        recipe: the recipe of the review.
        corpus: its data set.
        row_numbers: the number of each training row in the data source.
        fold_rows: indices of the training rows in each fold.
        plan: the plan of the review.
        results: the result of each fold.
    """
    labels, expected = recipe.task.labels, np.array(corpus.train.labels)
    scores = np.empty((len(expected), len(labels)))
    for rows, (fold_scores, _) in zip(fold_rows, results, strict=True):
        scores[list(rows)] = fold_scores
    # One temperature and one bias a label for all folds, fitted on the rows they are used on: so few parameters cannot
    # memorize a row, and the probabilities of the folds stay comparable.
    temperature, bias = fit_temperature(scores, expected)
    probabilities = Calibrator(labels, temperature, bias).probabilities(scores)
    noise, answers = find_label_noise(probabilities, expected), probabilities.argmax(axis=1)
    pairs = label_pairs(noise, labels)
    fold_records = tuple(record for _, record in results)
    seconds = [record.seconds for record in fold_records if record.seconds is not None]
    review = Review(
        whinchat_version=version("whinchat"),
        model_source=recipe.backbone.model,
        model_commit=plan.model_commit,
        data_source=recipe.data.source,
        data_revision=plan.data_revision,
        train_fingerprint=plan.train_fingerprint,
        rows=len(expected),
        labels=labels,
        folds=fold_records,
        temperature=temperature,
        accuracy=float(accuracy_score(expected, answers)),
        macro_f1=float(f1_score(expected, answers, labels=range(len(labels)), average="macro", zero_division=0.0)),
        thresholds=tuple(noise.thresholds.tolist()),
        suspects=sum(pair.rows for pair in pairs),
        estimated_errors=sum(pair.estimated for pair in pairs),
        pairs=pairs,
        seconds=sum(seconds) if len(seconds) == len(fold_records) else None,
    )
    return review, reviewed_rows(noise, probabilities, expected, corpus.train.texts, row_numbers, labels)
