"""The student: its features, its fit, and that its answers depend on nothing but the text."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from tests.helpers import tiny_models
from whinchat.evaluation.ngram_student import HASH_BASE, HASH_MODULUS, LENGTHS, MOST_BYTES, NgramStudent, count_ngrams

LABELS = ("good", "bad")


def hashed(text: str, buckets: int) -> list[int]:
    """The buckets of a text, counted one after the other as the docstring of ``NgramStudent`` says."""
    data = f" {' '.join(text.lower().split())} ".encode()[:MOST_BYTES]
    found = []
    for length in LENGTHS:
        for start in range(len(data) - length + 1):
            value = 0
            for byte in data[start : start + length]:
                value = (value * HASH_BASE + byte + 1) % HASH_MODULUS
            found.append(value % buckets)
    return found


@pytest.mark.parametrize("text", ["Good  day", "", "a", "ÄÖ 你好 🙂", "\ud800 half", "x" * 30])
def test_ngrams_are_those_of_the_definition(text: str) -> None:
    buckets = 1009
    counts = np.bincount(hashed(text.replace("\ud800", "?"), buckets), minlength=buckets)
    assert count_ngrams([text], buckets).toarray()[0].tolist() == counts.tolist()


def toy(rows: int = 300, seed: int = 0) -> tuple[list[str], np.ndarray]:
    texts, targets = tiny_models.toy_rows(rows, LABELS, seed)
    return [f"{text} {row}" for row, text in enumerate(texts)], np.array(targets)


def test_a_student_learns_the_probabilities() -> None:
    texts, targets = toy()
    shares = np.where(np.eye(2)[targets] > 0, 0.9, 0.1)
    student = NgramStudent.fit(texts, [shares])
    more, truth = toy(seed=1)
    (scores,) = student.log_probabilities(more)
    assert (scores.argmax(axis=1) == truth).mean() > 0.95
    assert np.exp(scores).sum(axis=1) == pytest.approx(np.ones(len(more)))
    # Soft targets give soft answers.
    assert 0.75 < np.exp(scores).max(axis=1).mean() < 0.97


def test_the_fit_is_that_of_scikit_learn() -> None:
    texts, targets = toy(150)
    shares = np.eye(2)[targets]
    student = NgramStudent.fit(texts, [shares])
    used = np.flatnonzero(student.idf)
    idf = student.idf[used].astype(float)
    counts = count_ngrams(texts, len(student.idf))[:, used].toarray()
    features = counts * idf / np.sqrt(counts @ idf**2)[:, None]
    best = min(
        abs(
            LogisticRegression(C=2 * c, max_iter=2000, tol=1e-8).fit(features, targets).predict_proba(features)
            - np.exp(student.log_probabilities(texts)[0])
        ).max()
        for c in (3.0, 10.0, 30.0, 100.0)
    )
    # scikit-learn's model of two labels has one vector of weights; two of half its length have half its penalty.
    assert best < 0.01


@pytest.mark.parametrize("text", ["Good  day\n", "", "a very good and bad day, " * 1000])
def test_other_programs_can_compute_the_student_by_its_definition(text: str) -> None:
    texts, targets = toy()
    student = NgramStudent.fit(texts, [np.eye(2)[targets]])
    buckets = hashed(text, len(student.idf))
    scores = [0.0] * 2
    norm = sum(float(student.idf[bucket]) ** 2 for bucket in buckets) ** 0.5 or 1.0
    for bucket in buckets:
        for label in range(2):
            scores[label] += float(student.idf[bucket]) * float(student.weights[bucket, label]) / norm
    shares = np.exp(np.array(scores) + student.bias)
    assert np.exp(student.log_probabilities([text])[0][0]) == pytest.approx(shares / shares.sum())


def test_decisions_are_normalized_and_fitted_apart() -> None:
    texts, targets = toy()
    shares = [np.eye(2)[targets], np.eye(3)[np.arange(len(texts)) % 3]]
    both = NgramStudent.fit(texts, shares).log_probabilities(texts[:9])
    assert [own.shape for own in both] == [(9, 2), (9, 3)]
    assert all(np.allclose(np.exp(own).sum(axis=1), 1) for own in both)


def test_a_text_alone_gets_the_same_bits() -> None:
    texts, targets = toy()
    student = NgramStudent.fit(texts, [np.eye(2)[targets]])
    (together,) = student.log_probabilities(texts)
    alone = np.concatenate([student.log_probabilities([text])[0] for text in texts])
    assert together.tobytes() == alone.tobytes()


def test_a_text_of_unknown_ngrams_is_answered_by_the_bias() -> None:
    texts, targets = toy()
    student = NgramStudent.fit(texts, [np.eye(2)[targets]])
    (scores,) = student.log_probabilities(["你好", ""])
    assert np.isfinite(scores).all()
