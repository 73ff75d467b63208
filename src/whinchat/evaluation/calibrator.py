"""Apply a calibration: turn label scores into the probabilities that whinchat shows.

N: rows. K: labels. A calibrator is saved with the adapter, and applied to every answer that whinchat gives; predicting
loads this module and not scikit-learn, which only fitting needs (``calibration.py``). Scores are log-probabilities over
all strings; calibrated probabilities are normalized over the labels. The predicted label is always the label with the
highest probability. Where a metric gains from favouring rare labels, the probabilities favour them, so that label and
probabilities never contradict each other.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from textwrap import shorten
from typing import Annotated, Any, ClassVar, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from scipy.special import log_softmax

from whinchat.checksums import replace_checked_files
from whinchat.errors import ModelError
from whinchat.evaluation.calibration_file import CALIBRATION_FILE
from whinchat.evaluation.results import DecisionTest
from whinchat.recipe.question import Decision
from whinchat.recipe.schema import MetricName

Floats = NDArray[np.float64]
# Bounds of the temperature; a model that needs a temperature beyond them has another problem.
COLDEST, HOTTEST = 0.05, 20.0
# Values that a file may hold; the factors allow for rounding of the fitted temperature.
_Temperature = Annotated[float, Field(ge=COLDEST * 0.999, le=HOTTEST * 1.001)]
_Share = Annotated[float, Field(ge=0, le=1)]
_REMEDY = "`whinchat calibrate RUN` writes a new one"
T = TypeVar("T")
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

    def unsure(self, probabilities: Floats) -> NDArray[np.bool_]:
        """Return whether the highest of the probabilities (N, K) is below the threshold, (N,)."""
        below: NDArray[np.bool_] = probabilities.max(axis=1) < (0.0 if self.threshold is None else self.threshold)
        return below

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
        replace_checked_files(folder, {CALIBRATION_FILE: _encode(asdict(self))}, adapter)

    @classmethod
    def load(cls, folder: Path, labels: tuple[str, ...]) -> Self:
        """Read the calibrator that ``save`` wrote; without the file, return one that leaves the scores as they are.

        Raises:
            ModelError: the file is damaged, or belongs to other labels.
        """
        file = folder / CALIBRATION_FILE
        if not file.is_file():
            return cls(labels)
        calibrator = _read(file, cls)
        _check(calibrator, labels, file)
        return calibrator


def save_calibrators(
    calibrators: Sequence[Calibrator], decisions: Sequence[Decision], folder: Path, adapter: Path | None = None
) -> None:
    """Write the calibrators of ``decisions``, by their addresses, as ``Calibrator.save`` writes a single one."""
    named = zip(decisions, calibrators, strict=True)
    content = {"decisions": {decision.address: asdict(calibrator) for decision, calibrator in named}}
    replace_checked_files(folder, {CALIBRATION_FILE: _encode(content)}, adapter)


def load_calibrators(folder: Path, decisions: Sequence[Decision]) -> list[Calibrator]:
    """Read the calibrators that ``save_calibrators`` wrote, one for each of ``decisions``; see ``Calibrator.load``.

    Raises:
        ModelError: the file is damaged, or belongs to other decisions.
    """
    file = folder / CALIBRATION_FILE
    if not file.is_file():
        return [Calibrator(decision.labels) for decision in decisions]
    stored = _read(file, _DecisionCalibrators).decisions
    addresses = [decision.address for decision in decisions]
    if isinstance(stored, tuple) and len(stored) != len(addresses):
        raise ModelError(f"{file}: made for {len(stored)} decisions, the task has {len(addresses)}; {_REMEDY}")
    calibrators = dict(zip(addresses, stored, strict=True)) if isinstance(stored, tuple) else stored
    if set(calibrators) != set(addresses):
        raise ModelError(
            f"{file}: made for the decisions {', '.join(calibrators)}, the task has {', '.join(addresses)}; give the "
            "questions and options in recipe.yaml the names that they had in training"
        )
    for decision in decisions:
        _check(calibrators[decision.address], decision.labels, file)
    return [calibrators[address] for address in addresses]


@dataclass(frozen=True)
class _DecisionCalibrators:
    # The first runs with questions stored a list in the order of the recipe.
    decisions: dict[str, Calibrator] | tuple[Calibrator, ...]
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")


def _encode(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()


def _read(file: Path, kind: type[T]) -> T:
    """Return the ``kind`` that ``file`` holds; raises ModelError as ``Calibrator.load`` does."""
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(record, dict):
            record.pop("bins", None)  # version 0.1 kept score bins here, which nothing reads any more
        return TypeAdapter(kind).validate_python(record)
    except OSError as error:
        raise ModelError(f"{file}: cannot be read ({error.strerror}); check its permissions") from None
    except ValidationError as error:
        fault = error.errors()[0]
        key, found = ".".join(map(str, fault["loc"])) or "content", shorten(repr(fault["input"]), 80)
        raise ModelError(f"{file}: not a calibration ({key}: {fault['msg']}, found {found}); {_REMEDY}") from None
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{file}: not a calibration ({' '.join(str(error).split())}); {_REMEDY}") from None


def _check(calibrator: Calibrator, labels: tuple[str, ...], file: Path) -> None:
    """Check that ``calibrator``, read from ``file``, is one for ``labels``; raises ModelError if not."""
    if calibrator.labels != labels:
        made_for, wanted = ", ".join(calibrator.labels), ", ".join(labels)
        raise ModelError(f"{file}: made for the labels {made_for}, the task has {wanted}; {_REMEDY}")
    for name, values, needed in (("bias", calibrator.bias, False), ("prior", calibrator.prior, calibrator.tau > 0)):
        if len(values) not in ({len(labels)} if needed else {0, len(labels)}):
            raise ModelError(f"{file}: {name} has {len(values)} values for {len(labels)} labels; {_REMEDY}")
    if calibrator.tau and calibrator.threshold is not None and calibrator.decision is None:
        logging.getLogger("whinchat").warning(
            f"{file}: version 0.1.0 fitted its threshold for unsure answers to probabilities that did not favour "
            f"rare labels as its answers do, so other texts are unsure now; {_REMEDY}"
        )


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
            f"{len(bad)} of {len(normalized)} texts have no probabilities, the first of them text {row}: scores "
            f"{log_probs[row].tolist()}, temperature {temperature}, bias {list(bias)}; numbers that are not finite "
            "come from damaged weights or from training that diverged: take another checkpoint, or train again with a "
            "lower train.learning_rate"
        )
    return normalized
