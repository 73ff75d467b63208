"""Find wrong labels from scores of models that were not trained on the rows; fits a calibration first.

N: rows. K: labels.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score

from whinchat.evaluation.calibration import fit_temperature
from whinchat.evaluation.calibrator import Calibrator
from whinchat.evaluation.label_noise import LabelNoise, LabelPair, find_label_noise, label_pairs

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class WrongLabels:
    """Which given labels look wrong, and how well the models agree with the given labels.

    Attributes:
        noise: the result of confident learning.
        probabilities: out-of-fold probabilities, (N, K).
        temperature: temperature fitted on the scores.
        accuracy, macro_f1: of the most probable label against the given labels.
        pairs: given and suspected label of the suspects.
    """

    noise: LabelNoise
    probabilities: Floats
    temperature: float
    accuracy: float
    macro_f1: float
    pairs: tuple[LabelPair, ...]

    @property
    def suspects(self) -> int:
        """Number of rows that the confident joint counts under another label."""
        return sum(pair.rows for pair in self.pairs)

    @property
    def estimated_errors(self) -> float:
        """Estimated number of wrong labels among all rows."""
        return sum(pair.estimated for pair in self.pairs)


def find_wrong_labels(scores: NDArray[np.floating[Any]], given: Ints, labels: tuple[str, ...]) -> WrongLabels:
    """Compare given labels with out-of-fold scores.

    One temperature and one bias a label for all folds are fitted on the rows they are used on: so few parameters cannot
    memorize a row, and the probabilities of the folds stay comparable.

    Args:
        scores: out-of-fold scores, (N, K), of one row or more.
        given: given labels, (N,).
        labels: K label names.
    """
    temperature, bias = fit_temperature(scores, np.eye(len(labels))[given])
    probabilities = Calibrator(labels, temperature, bias).probabilities(scores)
    noise, answers = find_label_noise(probabilities, given), probabilities.argmax(axis=1)
    macro_f1 = f1_score(given, answers, labels=range(len(labels)), average="macro", zero_division=0.0)
    pairs = label_pairs(noise, labels)
    return WrongLabels(noise, probabilities, temperature, float(accuracy_score(given, answers)), float(macro_f1), pairs)
