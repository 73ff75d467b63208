"""Label shares are found again where only they moved, and distrusted where more did."""

from __future__ import annotations

import numpy as np
import pytest

from tests.evaluation.test_calibration import PRIOR, drawn
from whinchat.evaluation.priors import ScoreBins, adjusted, reestimate, shift_test

SHIFTED = (0.5, 0.3, 0.2)


def posteriors(rows: int, seed: int, shares: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of a model fitted under PRIOR, on texts whose labels have other shares."""
    scores, labels = drawn(rows, seed, shares)
    # ``drawn`` knows the shares; a model fitted elsewhere does not.
    return adjusted(np.exp(scores), np.array(shares), np.array(PRIOR)), labels


def test_shares_are_found_again() -> None:
    probabilities, labels = posteriors(20_000, 3, SHIFTED)
    found = reestimate(probabilities, np.array(PRIOR))
    np.testing.assert_allclose(found.prior, SHIFTED, atol=0.02)
    right = (found.probabilities.argmax(axis=1) == labels).mean()
    assert right > (probabilities.argmax(axis=1) == labels).mean() + 0.01
    assert found.iterations < 1000


def test_the_same_shares_stay() -> None:
    probabilities, _ = posteriors(20_000, 4, PRIOR)
    np.testing.assert_allclose(reestimate(probabilities, np.array(PRIOR)).prior, PRIOR, atol=0.02)


@pytest.mark.parametrize("shares", [PRIOR, SHIFTED])
def test_label_shift_alone_is_trusted(shares: tuple[float, ...]) -> None:
    known, labels = posteriors(2000, 5, PRIOR)
    bins = ScoreBins.of(known, labels)
    trusted = []
    for seed in range(60):
        probabilities, _ = posteriors(1500, 100 + seed, shares)
        trusted.append(shift_test(probabilities, reestimate(probabilities, np.array(PRIOR)).prior, bins).trusted)
    assert np.mean(trusted) > 0.9


def test_texts_that_look_different_are_not_trusted() -> None:
    known, labels = posteriors(2000, 5, PRIOR)
    bins = ScoreBins.of(known, labels)
    probabilities, _ = posteriors(1500, 7, SHIFTED)
    # The model is less sure of every text than it was on validation.
    blurred = probabilities**0.5 / (probabilities**0.5).sum(axis=1, keepdims=True)
    found = shift_test(blurred, reestimate(blurred, np.array(PRIOR)).prior, bins)
    assert not found.trusted
    assert 0 < found.moved < 1
