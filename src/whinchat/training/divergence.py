"""Stop training whose loss, gradients or weights are not finite numbers, or whose loss has exploded."""

import math
import statistics
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path

from torch import nn

from whinchat.errors import DivergenceError
from whinchat.models.device import DevicePlan
from whinchat.models.weight_checks import is_finite
from whinchat.training.checkpoints import checkpoint_step
from whinchat.wording import name_rows

# The loss has exploded if the median of this many optimizer steps exceeds the limit of ``LossWatch``. A single bad
# batch or a rough start is healthy; see docs/decisions.md for measured curves.
WINDOW = 20
_FACTOR = 2.0
# Steps in a row that the gradient scaler of float16 may skip: it halves its scale each time, from 2**16.
MOST_SKIPPED = 50
_SHOWN_ROWS = 8


class LossWatch:
    """Watches the loss of the optimizer steps.

    Args:
        labels: K. Answers that do not depend on the text reach a loss of log K, so no lower loss is called exploded.
    """

    def __init__(self, labels: int) -> None:
        self._chance = math.log(labels)
        self._recent: deque[float] = deque(maxlen=WINDOW)

    def explosion(self, loss: float, first: float) -> str | None:
        """Note the ``loss`` of a step; return a sentence part if the loss has exploded.

        Args:
            loss: of this optimizer step.
            first: of the first optimizer step of the run, before any weight changed.
        """
        self._recent.append(loss)
        median = statistics.median(self._recent)
        limit = _FACTOR * max(first, self._chance)
        if len(self._recent) < WINDOW or median <= limit:
            return None
        return f"the training loss has exploded (median of {WINDOW} steps {median:.3g}, first step {first:.3g})"


def divergence_error(
    fault: str, step: int, rows: Sequence[int], plan: DevicePlan, good: Path | None
) -> DivergenceError:
    """Return the error that ends training.

    Args:
        fault: what is wrong.
        step: optimizer steps that were taken.
        rows: indices of the training rows of the batch; empty where the fault is not that of a batch.
        plan: data types of the model.
        good: the last checkpoint before the fault; None where there is none.
    """
    batch = ""
    if rows:
        rows = sorted(rows)
        batch = f", on training {name_rows(rows, _SHOWN_ROWS)} (`whinchat inspect RECIPE --row {rows[0]}` shows one)"
    kept = "no checkpoint was saved before" if good is None else f"the last good checkpoint is {good}"
    remedy = "set a lower train.learning_rate and start again with --overwrite"
    if plan.compute_dtype != "float32":
        remedy += f", or set backbone.load_in=auto and backbone.compute_dtype=float32 if {plan.compute_dtype} overflows"
    return DivergenceError(f"{fault} after {step} optimizer steps{batch}; {kept}; {remedy}")


def last_good_checkpoint(folder: Path, step: int) -> Path | None:
    """Return the newest checkpoint in ``folder`` of step ``step`` or before; None where there is none."""
    checkpoints = [path for path in folder.glob("checkpoint-*") if checkpoint_step(path) <= step]
    return max(checkpoints, key=checkpoint_step, default=None)


def not_finite(tensors: Iterable[tuple[str, nn.Parameter]]) -> str | None:
    """Return the name of the first trainable weight that holds NaN or infinity; None if all are finite."""
    return next((name for name, weight in tensors if weight.requires_grad and not is_finite(weight.detach())), None)
