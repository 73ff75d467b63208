"""Choose which texts a student answers, so that its answers agree with those of the classifier at a wanted rate.

M: held-out texts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, binomtest

from whinchat.evaluation.cascade_results import AgreementTest
from whinchat.evaluation.results import Interval

# Confidences that are tested, spread evenly over the texts.
_POINTS = 200
# The first test is of so many texts that one in a hundred may differ and the test still passes with ease.
_FIRST_FACTOR = 4


def fewest_texts(wanted: float, delta: float) -> int:
    """Return how many answered texts the first test needs."""
    return _FIRST_FACTOR * int(np.ceil(np.log(delta) / np.log(wanted)))


def find_threshold(
    confidence: NDArray[np.float64], agrees: NDArray[np.bool_], wanted: float, delta: float
) -> AgreementTest:
    """Find the lowest confidence at which a student may answer.

    The hypothesis "among the texts at or above a confidence, less than ``wanted`` agree" is tested by an exact binomial
    test at level ``delta``, from the highest confidence downwards, until a test fails. The last confidence that passed
    is the threshold. As the order of the tests does not depend on what agrees, the probability that any wrong
    hypothesis was rejected is at most ``delta``, however many were tested.

    Args:
        confidence: the student's confidence in its answer to each text, (M,).
        agrees: whether the answer is that of the classifier, (M,).
        wanted: rate of agreement, between 0 and 1.
        delta: level of the tests.

    Sources: fixed sequence testing in Learn then Test, Angelopoulos, Bates, Candès, Jordan and Lei 2021, section 3.2
    (arXiv:2110.01052); selective classification with a guaranteed risk, Geifman and El-Yaniv 2017, section 3.
    """
    order = np.argsort(-confidence, kind="stable")
    falling, agreeing = confidence[order], np.cumsum(agrees[order])
    # Texts of equal confidence are answered together or not at all.
    ends = np.append(np.flatnonzero(np.diff(falling)), len(order) - 1) if len(order) else np.zeros(0, dtype=np.int64)
    ends = ends[ends + 1 >= fewest_texts(wanted, delta)]
    chosen = ends[np.unique(np.linspace(0, len(ends) - 1, _POINTS).round().astype(int))] if len(ends) else ends
    passed = None
    for end in chosen.tolist():
        # How probable so few differences are, if the rate of agreement were just below the wanted one.
        if binom.cdf(end + 1 - agreeing[end], end + 1, 1 - wanted) > delta:
            break
        passed = end
    if passed is None:
        return AgreementTest(wanted, delta, None, len(order), 0, 0, None)
    answered, right = passed + 1, int(agreeing[passed])
    interval = binomtest(right, answered).proportion_ci(0.95, method="exact")
    bounds = Interval(float(interval.low), float(interval.high))
    return AgreementTest(wanted, delta, float(falling[passed]), len(order), answered, right, bounds)
