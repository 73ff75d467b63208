"""A student: a linear model on hashed n-grams of bytes that imitates a classifier at a hundredth of its cost.

N: texts. B: buckets. D: decisions. K: labels of a decision. L: labels of all decisions together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse import csr_array
from scipy.special import log_softmax

from whinchat.progress import track

Floats = NDArray[np.float64]

# N-grams of 1 to 5 bytes, which hold most words and the ends of their neighbours in any writing.
LENGTHS = (1, 2, 3, 4, 5)
# A polynomial hash (Karp and Rabin 1987). Every step fits into 64 bits, so any language can compute it.
HASH_BASE, HASH_MODULUS = 1_000_003, 2**31 - 1
# The beginning of a longer text is enough for a student.
MOST_BYTES = 20_000
# Inverse strengths of the L2 penalty that are tried.
_GRID = (3.0, 10.0, 30.0, 100.0)
# Every fifth text chooses among them.
_HELD_OUT = 5
_ITERATIONS = 100
# Weights of all labels together are at most this many, 32 MB, unless that would leave fewer buckets than the least.
_MOST_WEIGHTS, _MOST_BUCKETS, _LEAST_BUCKETS = 2**23, 2**18, 2**15


@dataclass(frozen=True, eq=False)
class NgramStudent:
    """A linear model on hashed n-grams.

    A text, cleaned as the classifier's recipe says, is lowercased (``str.lower``), white space at its ends is dropped
    and each other run of it becomes a single space (``str.split``), then one space is put at each end. Its first
    ``MOST_BYTES`` UTF-8 bytes are read. Its n-grams are all runs of 1 to 5 bytes (``LENGTHS``), each as often as it
    occurs. An n-gram has the hash ``h`` with ``h = (h * HASH_BASE + byte + 1) mod HASH_MODULUS`` over its bytes, from
    ``h = 0``, and the bucket ``h mod B``. The score of a label is the sum over the n-grams of ``idf`` times weight of
    their buckets, divided by the root of the sum over the n-grams of ``idf`` squared (by 1 where that is 0), plus the
    label's bias. The probabilities of a decision are the softmax of the scores of its labels.

    Attributes:
        sizes: K of each decision.
        idf: how much an n-gram of each bucket counts, (B,); 0 for a bucket that one training text or none has.
        weights: weight of each bucket for each label, (B, L).
        bias: bias of each label, (L,).
    """

    sizes: tuple[int, ...]
    idf: NDArray[np.float32]
    weights: NDArray[np.float32]
    bias: NDArray[np.float32]

    @classmethod
    def fit(cls, texts: Sequence[str], targets: Sequence[Floats]) -> NgramStudent:
        """Fit a student to the probabilities that a classifier gives, by cross entropy and an L2 penalty.

        The strength of the penalty is the one with the lowest cross entropy on every fifth text.

        Args:
            texts: N different texts.
            targets: for each decision, the classifier's probabilities, (N, K).

        Source: soft targets, Hinton, Vinyals and Dean 2015, "Distilling the Knowledge in a Neural Network", section 2.
        """
        sizes = tuple(target.shape[1] for target in targets)
        counts = count_ngrams(texts, _buckets(sum(sizes)))
        texts_with = np.bincount(counts.indices, minlength=counts.shape[1])
        idf = np.where(texts_with > 1, 1 + np.log((1 + len(texts)) / (1 + texts_with)), 0).astype(np.float32)
        used = np.flatnonzero(idf)
        features = _weigh(counts, idf)[:, used]
        target = np.concatenate(targets, axis=1)
        held_out = np.arange(len(texts)) % _HELD_OUT == _HELD_OUT - 1
        strength = _GRID[0]
        if held_out.any():
            kept, kept_target = features[~held_out], target[~held_out]
            losses = []
            for c in track(_GRID, "Choosing the student's penalty", "fits"):
                weights, bias = _fit_linear(kept, kept_target, sizes, c)
                log_p = _log_probabilities(features[held_out] @ weights + bias, sizes)
                losses.append(-(log_p * target[held_out]).sum())
            strength = _GRID[int(np.argmin(losses))]
        fitted, fitted_bias = _fit_linear(features, target, sizes, strength)
        matrix = np.zeros((len(idf), sum(sizes)), dtype=np.float32)
        matrix[used] = fitted
        return cls(sizes, idf, matrix, fitted_bias.astype(np.float32))

    def log_probabilities(self, texts: Sequence[str]) -> list[Floats]:
        """Return for each decision the log-probability of each label, (N, K).

        A text's row depends on this text alone, to the last bit.
        """
        features = _weigh(count_ngrams(texts, len(self.idf)), self.idf)
        # A short text uses few of the buckets, so the others are not converted.
        used, places = np.unique(features.indices, return_inverse=True)
        weights = self.weights[used].astype(np.float64)
        features = csr_array((features.data, places, features.indptr), shape=(len(texts), len(used)))
        scores = _log_probabilities(features @ weights + self.bias, self.sizes)
        return np.split(scores, list(accumulate(self.sizes))[:-1], axis=1)


def count_ngrams(texts: Sequence[str], buckets: int) -> Any:
    """Return how often the n-grams of each bucket occur in each text, a sparse matrix (N, B)."""
    hashed = [_ngram_buckets(text, buckets) for text in texts]
    starts = np.cumsum([0, *map(len, hashed)])
    indices = np.concatenate(hashed) if hashed else np.zeros(0, dtype=np.int64)
    counts = csr_array((np.ones(len(indices)), indices, starts), shape=(len(texts), buckets))
    counts.sum_duplicates()
    return counts


def _ngram_buckets(text: str, buckets: int) -> NDArray[np.int64]:
    words = " ".join(text.lower().split())
    data = np.frombuffer(f" {words} ".encode(errors="replace")[:MOST_BYTES], dtype=np.uint8).astype(np.int64) + 1
    hashes, found = np.zeros(len(data), dtype=np.int64), []
    for length in LENGTHS:
        if length > len(data):
            break
        # The hash of n bytes is that of the first n - 1, continued by the last.
        hashes = (hashes[: len(data) - length + 1] * HASH_BASE + data[length - 1 :]) % HASH_MODULUS
        found.append(hashes % buckets)
    return np.concatenate(found)


def _weigh(counts: Any, idf: NDArray[np.float32]) -> Any:
    """Return the features of each text: counts times idf, over the root of the sum of idf squared of all n-grams."""
    weight = idf.astype(np.float64)
    norms = np.sqrt(counts @ weight**2)
    features = counts.copy()
    features.data = counts.data * weight[counts.indices]
    rows = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    # A text of unknown n-grams alone has no features, and is answered by the bias.
    features.data = features.data / np.where(norms, norms, 1.0)[rows]
    return features


def _fit_linear(features: Any, target: Floats, sizes: Sequence[int], c: float) -> tuple[Floats, Floats]:
    """Return weights (U, L) and bias (L,) that minimize ``c`` times the cross entropy plus half the squared weights."""
    columns, labels = features.shape[1], target.shape[1]
    turned = features.T.tocsr()

    def loss(point: Floats) -> tuple[float, Floats]:
        weights, bias = point[:-labels].reshape(columns, labels), point[-labels:]
        log_p = _log_probabilities(features @ weights + bias, sizes)
        error = np.exp(log_p) - target  # (N, L); each decision's target sums to one
        gradient = np.concatenate([(turned @ error * c + weights).ravel(), error.sum(axis=0) * c])
        value = -(log_p * target).sum() * c + 0.5 * (weights**2).sum()
        return float(value) / len(target), gradient / len(target)

    start = np.zeros(columns * labels + labels)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": _ITERATIONS}).x
    return found[:-labels].reshape(columns, labels), found[-labels:]


def _log_probabilities(scores: Floats, sizes: Sequence[int]) -> Floats:
    """Normalize the scores (N, L) over the labels of each decision."""
    parts = np.split(scores, list(accumulate(sizes))[:-1], axis=1)
    return np.concatenate([log_softmax(part, axis=1) for part in parts], axis=1)


def _buckets(labels: int) -> int:
    buckets = _MOST_BUCKETS
    while buckets * labels > _MOST_WEIGHTS and buckets > _LEAST_BUCKETS:
        buckets //= 2
    return buckets
