"""What training leaves behind, besides the adapter."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainPoint:
    """One line of the training log; a value is None where that step did not measure it."""

    step: int
    epoch: float
    loss: float | None = None
    learning_rate: float | None = None
    grad_norm: float | None = None
    eval_loss: float | None = None
    eval_macro_f1: float | None = None


@dataclass(frozen=True)
class TrainingResult:
    """What training left behind, besides the adapter."""

    steps: int
    examples_per_second: float | None
    parameters: int
    trainable_parameters: int
    resumed_from_step: int
    truncated_texts: int
    escaped_texts: int
    history: tuple[TrainPoint, ...]
