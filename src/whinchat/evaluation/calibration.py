"""From a model's label scores to probabilities that can be believed and a label that serves the metric asked for.

N: rows. K: labels. Everything here is fitted on validation rows, saved with the adapter and used wherever whinchat
answers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, TypeAdapter
from scipy.optimize import minimize
from scipy.special import log_softmax
from sklearn.metrics import f1_score

from whinchat.errors import ModelError
from whinchat.recipe.schema import MetricName

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
FILE = "calibration.json"
# Temperatures beyond these say that something else is wrong.
_COLDEST, _HOTTEST = 0.05, 20.0
_TAUS = np.linspace(0, 1, 21)


@dataclass(frozen=True)
class Calibrator:
    """How scores become probabilities, and probabilities a label.

    Attributes:
        labels: their order is that of every column.
        temperature: the scores are divided by it.
        bias: added to them then, (K,), so that the probabilities of a label add up to its share however the model was
            trained (class weights, logit adjustment); empty for none.
        prior: share of each label among the rows it was fitted on, (K,).
        metric: what the decision is best for.
        tau: power of the prior that the decision divides by: 0 for accuracy, 1 for macro-recall.
        rows: how many rows it was fitted on; 0 where there were none, and scores stay as they are.
        threshold: confidence below which to answer "unsure"; None for never.
    """

    labels: tuple[str, ...]
    temperature: float = 1.0
    bias: tuple[float, ...] = ()
    prior: tuple[float, ...] = ()
    metric: MetricName = "accuracy"
    tau: float = 0.0
    rows: int = 0
    threshold: float | None = None
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    def probabilities(self, log_probs: NDArray[np.floating[Any]]) -> Floats:
        """Probabilities among the labels, (N, K), each row adding up to one, from log-probabilities (N, K)."""
        return np.exp(self._log_probabilities(log_probs))

    def decide(self, log_probs: NDArray[np.floating[Any]]) -> Ints:
        """The label to answer with, (N,): the one with the highest probability over prior ** tau."""
        return decide(self._log_probabilities(log_probs), self.prior, self.tau)

    def weighed(self, log_probs: NDArray[np.floating[Any]]) -> Floats:
        """Log-scores whose highest ``decide`` answers with, (N, K)."""
        return _weighed(self._log_probabilities(log_probs), self.prior, self.tau)

    def _log_probabilities(self, log_probs: NDArray[np.floating[Any]]) -> Floats:
        return scale_log_probs(log_probs, self.temperature, self.bias)

    def save(self, folder: Path) -> None:
        """Write it beside the adapter in ``folder``."""
        (folder / FILE).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, labels: tuple[str, ...]) -> Self:
        """What ``save`` wrote; an adapter without it gives its scores as they are.

        Raises:
            ModelError: the file is damaged, or is one of other labels.
        """
        file = folder / FILE
        if not file.is_file():
            return cls(labels)
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
            record.pop("bins", None)  # version 0.1 kept score bins here, which nothing reads any more
            calibrator = TypeAdapter(cls).validate_python(record)
        except (ValueError, AttributeError) as error:
            reason = " ".join(str(error).split())
            raise ModelError(f"{file}: not a calibration ({reason}); `whinchat calibrate RUN` makes another") from None
        if calibrator.labels != labels or len(calibrator.prior) not in (0, len(labels)):
            raise ModelError(
                f"{file}: made for the labels {', '.join(calibrator.labels)}, the task has {', '.join(labels)}; "
                "`whinchat calibrate RUN` makes another"
            )
        return calibrator


def fit_calibrator(
    log_probs: NDArray[np.floating[Any]], expected: Ints, labels: tuple[str, ...], metric: MetricName
) -> Calibrator:
    """Fit temperature and decision on scored rows.

    Args:
        log_probs: scores of the labels, (N, K).
        expected: true labels, (N,).
        labels: their names.
        metric: what the decision shall serve.

    Sources: bias-corrected temperature scaling, Alexandari, Kundaje and Shrikumar 2020, section 2.1 (after Guo et al.
    2017); dividing by the prior is the Bayes decision for balanced accuracy (Menon et al. 2021, section 3).
    """
    if not len(expected):
        return Calibrator(labels, metric=metric)
    size = len(labels)
    # Half a row for each label: a label that is missing from the rows keeps a finite weight.
    prior = (np.bincount(expected, minlength=size) + 0.5) / (len(expected) + size / 2)
    temperature, bias = fit_temperature(log_probs, expected)
    fitted = Calibrator(labels, temperature, bias, tuple(prior.tolist()), metric, 0.0, len(expected))
    if metric == "accuracy":
        return fitted
    if metric == "macro_recall":
        return replace(fitted, tau=1.0)
    return replace(fitted, tau=_best_tau(fitted, log_probs, expected))


def scale_log_probs(log_probs: NDArray[np.floating[Any]], temperature: float, bias: Sequence[float]) -> Floats:
    """Log-probabilities among the labels, (N, K), from scores (N, K)."""
    scores = log_probs.astype(np.float64) / temperature
    shares: Floats = log_softmax(scores + np.asarray(bias) if len(bias) else scores, axis=1)
    return shares


def fit_temperature(log_probs: NDArray[np.floating[Any]], expected: Ints) -> tuple[float, tuple[float, ...]]:
    """The temperature, and the bias of each label, with the least log-loss of ``expected`` (N,) under scores (N, K).

    Few rows leave the bias near zero: it has a normal prior of unit variance, which weighs as much as a row.
    """
    rows, size = len(expected), log_probs.shape[1]
    truth = np.eye(size)[expected]
    scores = log_probs.astype(np.float64)

    def loss(point: Floats) -> tuple[float, Floats]:
        cold, bias = np.exp(-point[0]), point[1:]
        log_p = log_softmax(scores * cold + bias, axis=1)
        off = np.exp(log_p) - truth  # (N, K)
        slope = np.concatenate([[-(off * scores).sum() * cold], off.sum(axis=0) + bias])
        return float(-(log_p * truth).sum() + 0.5 * (bias**2).sum()) / rows, slope / rows

    limits = [(np.log(_COLDEST), np.log(_HOTTEST)), *[(None, None)] * size]
    found = minimize(loss, np.zeros(size + 1), jac=True, bounds=limits, method="L-BFGS-B")
    return float(np.exp(found.x[0])), tuple(found.x[1:].tolist())


def decide(log_probabilities: Floats, prior: tuple[float, ...] | Floats, tau: float) -> Ints:
    """Index of the highest ``log p - tau log prior`` in each row, (N,)."""
    answers: Ints = _weighed(log_probabilities, prior, tau).argmax(axis=1)
    return answers


def _weighed(log_probabilities: Floats, prior: tuple[float, ...] | Floats, tau: float) -> Floats:
    return log_probabilities if tau == 0.0 else log_probabilities - tau * np.log(np.asarray(prior))


def _best_tau(fitted: Calibrator, log_probs: NDArray[np.floating[Any]], expected: Ints) -> float:
    """Macro-F1 has no closed decision: the power between 0 and 1 that is best on the rows at hand.

    One number for all labels, since a weight for each would follow the noise of the rarest one. Near the top
    macro-F1 is flat and ragged, so the middle of all that come within a standard error of it is taken.
    """
    log_p = fitted._log_probabilities(log_probs)
    size = len(fitted.labels)
    scores = np.array(
        [
            f1_score(expected, decide(log_p, fitted.prior, tau), labels=range(size), average="macro", zero_division=0.0)
            for tau in _TAUS
        ]
    )
    # Half a standard error of an accuracy: of two settings on the same rows most of the error is shared.
    slack = 0.5 * np.sqrt(0.25 / len(expected))
    return float(_TAUS[scores >= scores.max() - slack].mean())
