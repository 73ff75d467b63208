"""Label noise: each row of train is judged by a model that was trained without it, and the worst are listed.

Whoever is to look labels over wants to begin where an error is likely. Train is parted into folds; for each, an
adapter is trained on the others by the recipe's own settings, and scores the fold. A killed review goes on where it
was, inside a fold too.
"""

from __future__ import annotations

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
from whinchat.evaluation.calibration import Calibrator, fit_temperature
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
from whinchat.pipelines.run import Existing
from whinchat.prompts.template import PromptTemplate
from whinchat.recipe.schema import Recipe
from whinchat.storage.review_folder import FoldFolder, ReviewFolder, ReviewPlan, check_review_folder
from whinchat.training.prepare import prepare_training
from whinchat.training.train import train

Judged = tuple[NDArray[np.float32], FoldRecord]


def review_run(
    recipe: Recipe, path: Path, folds: int = 3, existing: Existing = "refuse"
) -> tuple[Review, list[ReviewedRow]]:
    """Judge every label of train out of fold, and write what was found into the folder ``path``.

    Args:
        recipe: how a model is trained; its train split is what is reviewed.
        path: the review folder.
        folds: parts of train, two or more: more of them train on more rows each, and take longer.
        existing: what to do where ``path`` already holds a review: refuse, resume it, or overwrite it.

    Returns:
        The findings, and every row, those whose label the model disagrees with most first.

    Raises:
        WhinchatError: see its children; nothing that was already written is lost.
    """
    if folds < 2:
        raise RunError(f"--folds {folds}: a fold is judged by a model trained on the others, so give 2 or more")
    folder = check_review_folder(recipe, folds, path, existing)
    if existing != "overwrite" and folder.review.is_file():
        return folder.read(), list(folder.read_rows())
    corpus = load_corpus(recipe)
    rows = source_rows(recipe, corpus.train)
    parts = make_folds(corpus.train, recipe.task.labels, folds, recipe.data.split_seed, corpus.source)
    plan, judged = _judge_all(recipe, corpus, parts, folder, existing)
    found, table = _conclude(recipe, corpus, rows, parts, plan, judged)
    folder.write(found, table)
    return found, list(table)


def _judge_all(
    recipe: Recipe, corpus: Corpus, parts: Sequence[Sequence[int]], folder: ReviewFolder, existing: Existing
) -> tuple[ReviewPlan, list[Judged]]:
    """The scores of every fold: those that an earlier try stored, and the others' made now."""
    stored = None if existing == "overwrite" else _stored(corpus, folder, len(parts))
    # Loaded before anything is written or deleted, so that a mistake in the recipe costs nothing.
    loaded = prepare_training(recipe, corpus) if stored is None or None in stored[1] else None
    if stored is not None:
        plan, judged = stored
        if loaded is not None and loaded[0].source.commit != plan.model_commit:
            raise RunError(
                f"{folder.path}: {recipe.backbone.model} has changed since the review began; use --overwrite"
            )
    else:
        assert loaded is not None
        plan, judged = _plan(recipe, corpus, loaded[0], len(parts)), [None] * len(parts)
        if existing == "overwrite":
            folder.clear()
        folder.open(plan)
    done: list[Judged] = []
    for number, rows in enumerate(parts):
        if (one := judged[number]) is None:
            # An adapter changes the model it is put on: each fold begins with a fresh one.
            one = _judge(recipe, corpus, rows, folder.fold(number), *(loaded or prepare_training(recipe, corpus)))
            loaded = None
            folder.write_fold(number, *one)
            # Trainer and model refer to each other; the next fold needs their memory.
            gc.collect()
        done.append(one)
    return plan, done


def _plan(recipe: Recipe, corpus: Corpus, backbone: Backbone, folds: int) -> ReviewPlan:

    return ReviewPlan(recipe, folds, corpus.train.fingerprint(), corpus.revision, backbone.source.commit)


def _stored(corpus: Corpus, folder: ReviewFolder, folds: int) -> tuple[ReviewPlan, list[Judged | None]] | None:
    """What an earlier try left; None where there was none."""
    if not folder.plan.is_file():
        return None
    plan = folder.read_plan()
    if plan.train_fingerprint != corpus.train.fingerprint():
        raise RunError(f"{folder.path}: {corpus.source} has changed since the review began; use --overwrite")
    return plan, [folder.read_fold(number) for number in range(folds)]


def _judge(
    recipe: Recipe,
    corpus: Corpus,
    rows: Sequence[int],
    place: FoldFolder,
    backbone: Backbone,
    template: PromptTemplate,
) -> Judged:
    """Train on all of train but ``rows``, and score those."""
    started = time.perf_counter()
    held = set(rows)
    others = corpus.train.take([row for row in range(len(corpus.train)) if row not in held])
    inside = corpus.train.take(list(rows))
    engine, training = train(
        recipe, replace(corpus, train=others), backbone, template, place.checkpoints, place.adapter
    )
    scores = score_prompts(
        engine,
        template.encode(inside.texts),
        recipe.evaluate.per_device_eval_batch_size,
        f"Judging fold {place.path.name}",
        labels_only=True,
    )
    seconds = None if training.resumed_from_step else time.perf_counter() - started
    return scores, FoldRecord(len(inside), inside.fingerprint(), len(others), training.steps, seconds)


def _conclude(
    recipe: Recipe,
    corpus: Corpus,
    rows: Sequence[int],
    parts: Sequence[Sequence[int]],
    plan: ReviewPlan,
    judged: Sequence[Judged],
) -> tuple[Review, tuple[ReviewedRow, ...]]:
    """From the folds' scores to the findings, and to every row in the order in which to look at them."""
    labels, given = recipe.task.labels, np.array(corpus.train.labels)
    scores = np.empty((len(given), len(labels)))
    for part, (one, _) in zip(parts, judged, strict=True):
        scores[list(part)] = one
    # One temperature on all rows: a number a label cannot learn a row by heart, so nothing is gained by fitting it on
    # other rows than it is used on, and the folds stay comparable.
    temperature, bias = fit_temperature(scores, given)
    probabilities = Calibrator(labels, temperature, bias).probabilities(scores)
    noise, answers = find_label_noise(probabilities, given), probabilities.argmax(axis=1)
    facts = tuple(one for _, one in judged)
    pairs = label_pairs(noise, labels)
    seconds = [one.seconds for one in facts if one.seconds is not None]
    found = Review(
        whinchat_version=version("whinchat"),
        model_source=recipe.backbone.model,
        model_commit=plan.model_commit,
        data_source=recipe.data.source,
        data_revision=plan.data_revision,
        train_fingerprint=plan.train_fingerprint,
        rows=len(given),
        labels=labels,
        folds=facts,
        temperature=temperature,
        accuracy=float(accuracy_score(given, answers)),
        macro_f1=float(f1_score(given, answers, labels=range(len(labels)), average="macro", zero_division=0.0)),
        thresholds=tuple(noise.thresholds.tolist()),
        suspects=sum(pair.rows for pair in pairs),
        estimated_errors=sum(pair.estimated for pair in pairs),
        pairs=pairs,
        seconds=sum(seconds) if len(seconds) == len(facts) else None,
    )
    return found, reviewed_rows(noise, probabilities, given, corpus.train.texts, rows, labels)
