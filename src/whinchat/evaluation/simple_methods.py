"""Measure simple methods on the rows of a run: the most frequent label, and logistic regression on TF-IDF.

N: texts. K: labels. A classifier that does not beat them is not worth its cost.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion

from whinchat.data.cleaning import clean
from whinchat.data.dataset import Split
from whinchat.data.labels import class_weights
from whinchat.evaluation.counted_texts import CHARACTERS, WORDS, CountedTexts
from whinchat.evaluation.metric_registry import METRICS
from whinchat.evaluation.metrics import compute_metrics, count_answers, paired_test
from whinchat.evaluation.results import Baseline, BaselineName, Mode
from whinchat.recipe.schema import Recipe

Ints = NDArray[np.int64]

# Inverse strengths of the L2 penalty that are tried.
_GRID = (1.0, 3.0, 10.0, 30.0)
# Every fifth training row chooses among them.
_HELD_OUT = 5


def tfidf_features() -> FeatureUnion:
    """Return TF-IDF of words, pairs of words, and runs of 2 to 5 characters within words."""
    kinds = {"words": WORDS, "characters": CHARACTERS}
    return FeatureUnion([(name, TfidfVectorizer(sublinear_tf=True, **kind)) for name, kind in kinds.items()])


@dataclass(frozen=True)
class SimpleAnswers:
    """What a simple method answers: label indices, (N,), the settings that it chose, and seconds of fit and answers."""

    name: BaselineName
    settings: str
    answers: Ints
    seconds: float = 0.0


def count_texts(recipe: Recipe, train: Iterable[str], texts: Iterable[str]) -> CountedTexts:
    """Count the words of training texts and of texts to answer, for ``answer_simply`` of each of several decisions."""
    return CountedTexts(_cleaned(recipe, train), _cleaned(recipe, texts))


def answer_simply(
    recipe: Recipe, train: Split, texts: Sequence[str], counted: CountedTexts | None = None
) -> tuple[SimpleAnswers, ...]:
    """Fit the simple methods on ``train``, and return their answers to ``texts``, N.

    TF-IDF is left out where ``train`` has one label only, or no words.

    Args:
        recipe: the recipe of the classifier: labels, cleaning, metric and class weights.
        train: the training rows.
        texts: the texts to answer.
        counted: what ``count_texts`` counted in at least these texts; None to count here. The time of counting is part
            of the seconds of TF-IDF.
    """
    majority = np.full(len(texts), np.bincount(train.labels).argmax())
    found = [SimpleAnswers("majority", "", majority)]
    started = time.perf_counter()
    cleaned, train_texts = (_cleaned(recipe, part) for part in (texts, train.texts))
    if len(set(train.labels)) > 1 and any(text.strip() for text in train_texts):
        own = CountedTexts(train_texts, cleaned) if counted is None else counted
        predicted, settings = _tfidf(recipe, own, train_texts, np.array(train.labels), cleaned)
        seconds = time.perf_counter() - started + (0.0 if counted is None else counted.seconds)
        found.append(SimpleAnswers("tfidf", settings, predicted, seconds))
    return tuple(found)


def measure_simple_answers(
    simple: Sequence[SimpleAnswers], recipe: Recipe, evaluated: Split, answers: Ints, mode: Mode
) -> tuple[Baseline, ...]:
    """Measure what simple methods answer to ``evaluated`` beside the answers of a classifier.

    Args:
        simple: what ``answer_simply`` answers to the texts of ``evaluated``.
        recipe: the recipe of the classifier: labels and metric.
        evaluated: the rows to measure, N.
        answers: indices of the labels that the classifier answers with, (N,).
        mode: its way of answering.
    """
    labels, expected, settings = recipe.task.labels, np.array(evaluated.labels), recipe.evaluate
    return tuple(
        Baseline(
            method.name,
            method.settings,
            compute_metrics("score", labels, expected, method.answers, settings, seconds=method.seconds),
            paired_test(mode, expected, method.answers, answers, size=len(labels), settings=settings),
        )
        for method in simple
    )


def _tfidf(
    recipe: Recipe, counted: CountedTexts, train: Sequence[str], labels: Ints, texts: Sequence[str]
) -> tuple[Ints, str]:
    """Return the answers of a logistic regression to ``texts``, (N,), and the settings that it chose.

    One regression a label, each against all others, takes a sixth of the time of one for all labels. Two labels need a
    single regression, because the other label's would be its mirror image. The strength of the penalty is the one that
    is best for the metric of ``recipe`` on every fifth training row of each label.
    """
    size = len(recipe.task.labels)
    weights = np.array(class_weights(recipe.train, recipe.task.labels, labels.tolist()))[labels]
    held_out = np.zeros(len(labels), dtype=bool)
    shuffled = np.random.default_rng(recipe.train.seed).permutation(len(labels))
    held_out[shuffled[np.argsort(labels[shuffled], kind="stable")][_HELD_OUT - 1 :: _HELD_OUT]] = True

    def answer(rows: NDArray[np.bool_], others: Sequence[str], grid: Sequence[float]) -> list[Ints]:
        fitted, read = counted.tfidf([text for text, kept in zip(train, rows, strict=True) if kept], others)
        return [_one_against_all(fitted, labels[rows], weights[rows], read, size, c) for c in grid]

    choice = _GRID[0]
    kept = [text for text, kept in zip(train, held_out, strict=True) if kept]
    words = any(text.strip() for text, held in zip(train, held_out, strict=True) if not held)
    if kept and words and len(set(labels[~held_out].tolist())) > 1:
        metric, truth = METRICS[recipe.evaluate.metric].function, labels[held_out]
        matrices = [count_answers(truth, predicted, size) for predicted in answer(~held_out, kept, _GRID)]
        choice = _GRID[int(metric(np.stack(matrices)).argmax())]
    (predicted,) = answer(np.ones(len(labels), dtype=bool), texts, (choice,))
    return predicted, f"C = {choice:g}" + ("" if counted.characters else ", words only")


def _one_against_all(fitted: object, labels: Ints, weights: object, read: object, size: int, c: float) -> Ints:
    """Return the label whose regression is surest of each row of ``read``, (N,)."""
    scores = np.full((read.shape[0], size), -np.inf)  # type: ignore[attr-defined]  # a scipy matrix, which is not typed
    present = np.unique(labels)
    for label in present[1:] if len(present) == 2 else present:
        regression = LogisticRegression(C=c, solver="liblinear", max_iter=1000)
        scores[:, label] = regression.fit(fitted, labels == label, weights).decision_function(read)
    if len(present) == 2:
        scores[:, present[0]] = -scores[:, present[1]]
    answers: Ints = scores.argmax(axis=1)
    return answers


def _cleaned(recipe: Recipe, texts: Iterable[str]) -> list[str]:
    return [clean(text, recipe.task.clean) for text in texts]
