"""Answers under label shares that are estimated from the very texts, beside the plain ones.

N: texts. K: labels. Only for whoever asks for it: where more than the shares has changed, it makes answers worse, and
how the texts are mixed then decides what each of them is answered with.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from whinchat.errors import DataError, RunError
from whinchat.evaluation.calibration import Calibrator, decide
from whinchat.evaluation.metrics import measure_decision
from whinchat.evaluation.priors import FEWEST_TEXTS, Reestimation, reestimate, shift_test
from whinchat.evaluation.records import Measured
from whinchat.recipe.recipe import Evaluate

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Softmax can round a probability to 0, of which there is no logarithm.
_TINY = np.finfo(np.float64).tiny


@dataclass(frozen=True)
class Reanswered:
    """Probabilities (N, K) and answers (N,), plain and under the estimated shares, and what the estimate is worth."""

    plain: Floats
    plain_answers: Ints
    probabilities: Floats
    answers: Ints
    reestimation: Reestimation


def require(calibrator: Calibrator, texts: int, run: Path) -> None:
    """Make sure that label shares can be estimated from so many texts.

    Raises:
        RunError: the calibrator of ``run`` was fitted on no rows. DataError: the texts are too few.
    """
    if calibrator.bins is None:
        raise RunError(
            f"{run}: has no calibration on validation rows, so there are no label shares to start from; leave "
            "--reestimate-priors out, or run again with a validation split (data.validation_rows)"
        )
    if texts < FEWEST_TEXTS:
        raise DataError(
            f"--reestimate-priors: label shares cannot be estimated from {texts} texts; "
            f"give {FEWEST_TEXTS} or more at once, or leave it out"
        )


def reanswer(calibrator: Calibrator, log_probs: NDArray[np.floating[Any]]) -> Reanswered:
    """Estimate the label shares of texts with scores ``log_probs`` (N, K), and answer under them.

    The decision stays that of the calibrator's metric with the estimated shares in the place of the fitted ones: they
    enter the probability and leave the decision again by their power tau. With tau 1, for macro-recall, the two cancel:
    probabilities change, answers do not.
    """
    assert calibrator.bins is not None, "see require"
    plain, fitted = calibrator.probabilities(log_probs), np.array(calibrator.prior)
    found = reestimate(plain, fitted)
    # Half a text for each label, as among the fitted shares: none is ruled out for good.
    size = len(fitted)
    shares = (found.prior * len(plain) + 0.5) / (len(plain) + size / 2)
    log_posterior: Floats = log_softmax(np.log(np.maximum(plain, _TINY)) + np.log(shares / fitted), axis=1)
    answers = decide(log_posterior, shares, calibrator.tau)
    plain_answers = calibrator.decide(log_probs)
    test = shift_test(plain, found.prior, calibrator.bins)
    return Reanswered(
        plain,
        plain_answers,
        np.exp(log_posterior),
        answers,
        Reestimation(
            labels=calibrator.labels,
            fitted=calibrator.prior,
            estimated=tuple(shares.tolist()),
            texts=len(plain),
            changed=int((answers != plain_answers).sum()),
            p_value=test.p_value,
            moved=test.moved,
        ),
    )


@dataclass(frozen=True)
class Reweighed:
    """Calibrated answers measured on labelled texts, under label shares that were estimated without the labels.

    ``actual`` are the true shares of the labels.
    """

    reestimation: Reestimation
    actual: tuple[float, ...]
    reestimated: Measured

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {**asdict(self), "reestimation": self.reestimation.to_dict()}


def measure_reanswered(
    calibrator: Calibrator, log_probs: NDArray[np.floating[Any]], expected: Ints, settings: Evaluate
) -> Reweighed:
    """Measure ``reanswer`` on scores (N, K) of texts whose labels ``expected`` (N,) are known after all."""
    found = reanswer(calibrator, log_probs)
    return Reweighed(
        found.reestimation,
        tuple((np.bincount(expected, minlength=len(calibrator.labels)) / len(expected)).tolist()),
        measure_decision(calibrator.labels, log_probs, found.probabilities, found.answers, expected, settings),
    )
