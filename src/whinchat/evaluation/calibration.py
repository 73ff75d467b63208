"""Calibrate a classifier: turn label scores into the probabilities that whinchat shows.

N: rows. K: labels. A calibrator is fitted on validation rows, saved with the adapter, and applied to every answer that
whinchat gives. Scores are log-probabilities over all strings; calibrated probabilities are normalized over the labels.
The predicted label is always the label with the highest probability. Where a metric gains from favouring rare labels,
the probabilities favour them, so that label and probabilities never contradict each other.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from textwrap import shorten
from typing import Annotated, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from scipy.optimize import minimize
from scipy.special import log_softmax

from whinchat.checksums import replace_checked_file
from whinchat.errors import ModelError
from whinchat.evaluation.calibration_file import CALIBRATION_FILE
from whinchat.evaluation.metrics import macro_f1_of_rows, paired_gain
from whinchat.evaluation.results import DecisionTest
from whinchat.recipe.schema import EvaluateConfig, MetricName

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
# Bounds of the temperature; a model that needs a temperature beyond them has another problem.
_COLDEST, _HOTTEST = 0.05, 20.0
_TAUS = np.linspace(0, 1, 21)
_FOLDS = 5
# Values that a file may hold; the factors allow for rounding of the fitted temperature.
_Temperature = Annotated[float, Field(ge=_COLDEST * 0.999, le=_HOTTEST * 1.001)]
_Share = Annotated[float, Field(ge=0, le=1)]
_PositiveShare = Annotated[float, Field(gt=0, le=1)]


@dataclass(frozen=True)
class Calibrator:
    """Turns scores into probabilities, whose highest is the predicted label.

    Attributes:
        labels: label names, in the order of the columns of scores and probabilities.
        temperature: divisor of the scores.
        bias: added to the divided scores, (K,), so that the mean probability of a label is its share of the rows,
            whatever the model was trained with (class weights, logit adjustment); empty for no bias.
        prior: share of each label among the rows of the fit, (K,).
        metric: metric that the predicted labels serve.
        tau: power of the prior by which the probabilities are divided before they are normalized again, which favours
            rare labels; 0 to leave them as they are.
        rows: number of rows of the fit; 0 for a calibrator that was not fitted and leaves the scores as they are.
        threshold: confidence below which to answer "unsure"; None to always answer.
        decision: what favouring rare labels gained on the rows of the fit; None if it was not tried, and in the files
            of version 0.1.0.
    """

    labels: tuple[str, ...]
    temperature: _Temperature = 1.0
    bias: tuple[float, ...] = ()
    prior: tuple[_PositiveShare, ...] = ()
    metric: MetricName = "accuracy"
    tau: _Share = 0.0
    rows: Annotated[int, Field(ge=0)] = 0
    threshold: _Share | None = None
    decision: DecisionTest | None = None
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)

    def probabilities(self, log_probs: NDArray[np.floating[Any]]) -> Floats:
        """Return probabilities normalized over the labels, (N, K), for scores (N, K).

        Raises:
            ModelError: the scores of a row, or the calibrator's own numbers, are not finite.
        """
        return np.exp(scale_log_probs(log_probs, self.temperature, self.offsets))

    @property
    def offsets(self) -> Floats:
        """What is added to the divided scores before they are normalized, (K,): the bias less tau log prior."""
        bias = np.array(self.bias) if self.bias else np.zeros(len(self.labels))
        return bias - self.tau * np.log(self.prior) if self.tau else bias

    def save(self, folder: Path, adapter: Path | None = None) -> None:
        """Write the calibrator to ``calibration.json`` in ``folder``, and its checksum beside those of the adapter.

        Args:
            folder: the folder to write to.
            adapter: the folder of the adapter that the calibrator belongs to; None for ``folder``.
        """
        replace_checked_file(folder, CALIBRATION_FILE, json.dumps(asdict(self), indent=2) + "\n", adapter)

    @classmethod
    def load(cls, folder: Path, labels: tuple[str, ...]) -> Self:
        """Read the calibrator that ``save`` wrote; without the file, return one that leaves the scores as they are.

        Raises:
            ModelError: the file is damaged, or belongs to other labels.
        """
        file = folder / CALIBRATION_FILE
        if not file.is_file():
            return cls(labels)
        remedy = "`whinchat calibrate RUN` writes a new one"
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
            if isinstance(record, dict):
                record.pop("bins", None)  # version 0.1 kept score bins here, which nothing reads any more
            calibrator = TypeAdapter(cls).validate_python(record)
        except OSError as error:
            raise ModelError(f"{file}: cannot be read ({error.strerror}); check its permissions") from None
        except ValidationError as error:
            fault = error.errors()[0]
            key, found = ".".join(map(str, fault["loc"])) or "content", shorten(repr(fault["input"]), 80)
            raise ModelError(f"{file}: not a calibration ({key}: {fault['msg']}, found {found}); {remedy}") from None
        except (ValueError, RecursionError) as error:
            raise ModelError(f"{file}: not a calibration ({' '.join(str(error).split())}); {remedy}") from None
        if calibrator.labels != labels:
            made_for, wanted = ", ".join(calibrator.labels), ", ".join(labels)
            raise ModelError(f"{file}: made for the labels {made_for}, the task has {wanted}; {remedy}")
        for name, values, needed in (("bias", calibrator.bias, False), ("prior", calibrator.prior, calibrator.tau > 0)):
            if len(values) not in ({len(labels)} if needed else {0, len(labels)}):
                raise ModelError(f"{file}: {name} has {len(values)} values for {len(labels)} labels; {remedy}")
        if calibrator.tau and calibrator.threshold is not None and calibrator.decision is None:
            logging.getLogger("whinchat").warning(
                f"{file}: version 0.1.0 fitted its threshold for unsure answers to probabilities that did not favour "
                f"rare labels as its answers do, so other texts are unsure now; {remedy}"
            )
        return calibrator


def fit_calibrator(
    log_probs: NDArray[np.floating[Any]], expected: Ints, labels: tuple[str, ...], settings: EvaluateConfig
) -> Calibrator:
    """Fit temperature and bias on scored rows, and favour rare labels if that reliably gains ``settings.metric``.

    Args:
        log_probs: scores, (N, K).
        expected: true labels, (N,).
        labels: K label names.
        settings: the recipe's ``evaluate``: the metric, and the bootstrap behind the interval of the gain.

    Sources: bias-corrected temperature scaling, Alexandari, Kundaje and Shrikumar 2020, section 2.1 (after Guo et al.
    2017); dividing by the prior is the Bayes decision for balanced accuracy (Menon et al. 2021, section 3).
    """
    if not len(expected):
        return Calibrator(labels, metric=settings.metric)
    plain = _fit_plain(log_probs, expected, labels, settings.metric)
    if settings.metric == "accuracy" or len(expected) < 2:
        return plain
    favouring = replace(plain, tau=_fit_tau(plain, log_probs, expected))
    decision = _test_decision(favouring.tau, log_probs, expected, labels, settings)
    return replace(favouring if decision.gains else plain, decision=decision)


def draw_folds(rows: int, seed: int) -> Ints:
    """Return the number of the fold, below five, that each of ``rows`` rows belongs to, (N,)."""
    return np.random.default_rng(seed).permutation(rows) % min(_FOLDS, rows)


def scale_log_probs(log_probs: NDArray[np.floating[Any]], temperature: float, bias: Sequence[float] | Floats) -> Floats:
    """Return log-probabilities normalized over the labels, (N, K), of scores (N, K).

    Raises:
        ModelError: the result of a row is not a number, because a score, the temperature or the bias is not finite.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        scores = log_probs.astype(np.float64) / temperature
        normalized: Floats = log_softmax(scores + np.asarray(bias) if len(bias) else scores, axis=1)
    # A score of minus infinity, a probability of zero, is a number; whatever has none here is NaN in the whole row.
    if len(bad := np.flatnonzero(np.isnan(normalized).any(axis=1))):
        row = int(bad[0])
        raise ModelError(
            f"{len(bad)} of {len(normalized)} texts have no probabilities, the first of them text {row + 1}: scores "
            f"{log_probs[row].tolist()}, temperature {temperature}, bias {list(bias)}; numbers that are not finite "
            "come from damaged weights or from training that diverged: take another checkpoint, or train again with a "
            "lower train.learning_rate"
        )
    return normalized


def fit_temperature(log_probs: NDArray[np.floating[Any]], expected: Ints) -> tuple[float, tuple[float, ...]]:
    """Fit the temperature and the bias of each label, (K,), that minimize the log loss of the true labels.

    The bias has a standard normal prior, which weighs as much as one row, so that few rows leave it near zero.

    Args:
        log_probs: scores, (N, K).
        expected: true labels, (N,).
    """
    rows, size = len(expected), log_probs.shape[1]
    truth = np.eye(size)[expected]
    scores = log_probs.astype(np.float64)

    def loss(point: Floats) -> tuple[float, Floats]:
        inverse_temperature, bias = np.exp(-point[0]), point[1:]
        log_p = log_softmax(scores * inverse_temperature + bias, axis=1)
        error = np.exp(log_p) - truth  # (N, K)
        gradient = np.concatenate([[-(error * scores).sum() * inverse_temperature], error.sum(axis=0) + bias])
        return float(-(log_p * truth).sum() + 0.5 * (bias**2).sum()) / rows, gradient / rows

    bounds = [(np.log(_COLDEST), np.log(_HOTTEST)), *[(None, None)] * size]
    optimum = minimize(loss, np.zeros(size + 1), jac=True, bounds=bounds, method="L-BFGS-B")
    return float(np.exp(optimum.x[0])), tuple(optimum.x[1:].tolist())


def _fit_plain(
    log_probs: NDArray[np.floating[Any]], expected: Ints, labels: tuple[str, ...], metric: MetricName
) -> Calibrator:
    """Fit a calibrator whose probabilities match observed frequencies, so that they favour no label."""
    size = len(labels)
    # Half a row is added to each label, so that a label without rows keeps a finite weight.
    prior = (np.bincount(expected, minlength=size) + 0.5) / (len(expected) + size / 2)
    temperature, bias = fit_temperature(log_probs, expected)
    return Calibrator(labels, temperature, bias, tuple(prior.tolist()), metric, 0.0, len(expected))


def _fit_tau(plain: Calibrator, log_probs: NDArray[np.floating[Any]], expected: Ints) -> float:
    """Return the power of the prior, between 0 and 1, that is best for the metric of ``plain`` on the given rows.

    Macro recall has a closed-form decision, macro-F1 has none. One power serves all labels, for a weight of each label
    would follow the noise of the rarest one. Macro-F1 is flat and ragged near its maximum, so the mean of all powers
    within half a standard error of the maximum is taken.
    """
    if plain.metric == "macro_recall":
        return 1.0
    size = len(plain.labels)
    answers = (replace(plain, tau=tau).probabilities(log_probs).argmax(axis=1) for tau in _TAUS.tolist())
    scores = np.array([macro_f1_of_rows(expected, answer, size) for answer in answers])
    # Two settings on the same rows share most of their error, hence half a standard error (of an accuracy of 0.5).
    slack = 0.5 * np.sqrt(0.25 / len(expected))
    return float(_TAUS[scores >= scores.max() - slack].mean())


def _test_decision(
    tau: float,
    log_probs: NDArray[np.floating[Any]],
    expected: Ints,
    labels: tuple[str, ...],
    settings: EvaluateConfig,
) -> DecisionTest:
    """Measure what favouring rare labels gains on rows that no fitted number has seen.

    Each row is answered with and without by calibrators that were fitted, ``tau`` included, on the other folds; the
    interval comes from a paired bootstrap of these answers.
    """
    fold = draw_folds(len(expected), settings.seed)
    without, favoured = np.empty_like(expected), np.empty_like(expected)
    for number in range(int(fold.max()) + 1):
        inside = fold == number
        others, truth = log_probs[~inside], expected[~inside]
        plain = _fit_plain(others, truth, labels, settings.metric)
        favouring = replace(plain, tau=_fit_tau(plain, others, truth))
        without[inside] = plain.probabilities(log_probs[inside]).argmax(axis=1)
        favoured[inside] = favouring.probabilities(log_probs[inside]).argmax(axis=1)
    gain, interval = paired_gain(settings.metric, expected, without, favoured, size=len(labels), settings=settings)
    return DecisionTest(settings.metric, tau, gain, interval)
