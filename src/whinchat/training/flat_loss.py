"""Say during training that the loss is no lower than that of answers which do not depend on the text."""

import logging
import math
from collections.abc import Sequence
from typing import Any

from transformers import TrainerCallback

from whinchat.training.launch import process_rank

# Two spans of optimizer steps are compared, after this share of the training and not before both are over.
_SPAN = 50
_SHARE = 0.2
# A span is flat if its mean loss exceeds this part of the span's before, and of the loss of constant answers. Rounding
# and small batches move the mean by some percent; healthy runs are far below (docs/decisions.md).
_PART = 0.97

logger = logging.getLogger("whinchat")


def constant_loss(labels: Sequence[int], weights: Sequence[float]) -> float:
    """Return the lowest mean loss of answers that do not depend on the text.

    That is the entropy of the labels' shares where every weight is 1: log K if all labels are equally frequent.

    Args:
        labels: label index of each training row.
        weights: loss weight of each row.
    """
    sums: dict[int, float] = {}
    for label, weight in zip(labels, weights, strict=True):
        sums[label] = sums.get(label, 0.0) + weight
    total = sum(sums.values())
    return sum(part * math.log(total / part) for part in sums.values() if part) / len(labels)


def flat_level(losses: Sequence[tuple[int, float]], constant: float, steps: int) -> float | None:
    """Return the mean loss of the last steps if training has learned nothing so far and does not begin to; else None.

    Args:
        losses: optimizer step and logged loss, oldest first.
        constant: the loss of constant answers.
        steps: planned steps of the training.
    """
    now = losses[-1][0] if losses else 0
    earlier = [loss for step, loss in losses if now - 2 * _SPAN < step <= now - _SPAN]
    recent = [loss for step, loss in losses if step > now - _SPAN]
    if now < max(2 * _SPAN, _SHARE * steps) or not earlier:
        return None
    level = sum(recent) / len(recent)
    return level if level > _PART * max(constant, sum(earlier) / len(earlier)) else None


class FlatLossWarning(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
    """Log one warning when the loss has stayed flat.

    Args:
        constant: the lowest loss of answers that do not depend on the text; None to say nothing.
        learning_rate: ``train.learning_rate`` of the recipe.
    """

    def __init__(self, constant: float | None, learning_rate: float) -> None:
        self._constant, self._rate = constant, learning_rate
        self._watches = constant is not None

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Look at all losses that were logged, also before a checkpoint from which training goes on."""
        if not self._watches or self._constant is None or process_rank() != 0:
            return
        losses = [(entry["step"], entry["loss"]) for entry in state.log_history if "loss" in entry]
        level = flat_level(losses, self._constant, state.max_steps)
        if level is None:
            return
        self._watches = False
        logger.warning(
            "The training loss has been flat for %d of %d steps: %.3f, where answers that do not depend on the text "
            "reach %.3f. If that goes on, all texts get the same label. Stop, and try another train.learning_rate "
            "(lower than %g, which can be too high, then higher), and look at some rows with `whinchat inspect`.",
            2 * _SPAN, state.max_steps, level, self._constant, self._rate,
        )  # fmt: skip
