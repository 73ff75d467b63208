"""Say during training that the loss is no lower than that of answers which do not depend on the text."""

import logging
import math
from collections.abc import Sequence
from typing import Any

from transformers import TrainerCallback

from whinchat.data.dataset import Split
from whinchat.recipe.schema import Recipe
from whinchat.training.launch import process_rank
from whinchat.training.losses import example_weights

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

    Nothing is said of ``train.loss: full``, which predicts texts as well, and of logit adjustment, whose offsets change
    the loss of constant answers.

    Args:
        recipe: the settings.
        train: the training rows.
        answers: token ids of each label's answer, in label order.
    """

    def __init__(self, recipe: Recipe, train: Split, answers: Sequence[Sequence[int]]) -> None:
        settings = recipe.train
        self._watches = settings.loss != "full" and not settings.logit_adjustment
        of_labels = constant_loss(train.labels, example_weights(settings, recipe.task.labels, train))
        # A completion loss is that of all tokens of an answer and its end of turn, divided by their number.
        tokens = [len(answers[label]) + 1 for label in train.labels]
        self._constant = of_labels * len(tokens) / sum(tokens) if settings.loss == "completion" else of_labels
        self._rate = settings.learning_rate

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Look at all losses that were logged, also before a checkpoint from which training goes on."""
        if not self._watches or process_rank() != 0:
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
