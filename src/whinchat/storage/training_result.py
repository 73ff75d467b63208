"""The record that training returns besides the adapter."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainPoint:
    """One line of the training log; None for a value that was not measured at that step."""

    step: int
    epoch: float
    loss: float | None = None
    learning_rate: float | None = None
    grad_norm: float | None = None
    eval_loss: float | None = None
    eval_macro_f1: float | None = None


@dataclass(frozen=True)
class TrainingResult:
    """The size, speed and log of a training.

    ``truncated_texts`` and ``escaped_texts`` count the training texts whose prompt was changed; see ``Prompt``.
    ``examples_per_second`` is None where a resumed training measured only a part. ``adapted_share`` is the share of the
    model's parameters that belong to layers with an adapter. ``notes`` say where memory made training depart from the
    recipe.
    """

    steps: int
    examples_per_second: float | None
    parameters: int
    trainable_parameters: int
    resumed_from_step: int
    truncated_texts: int
    escaped_texts: int
    history: tuple[TrainPoint, ...]
    adapted_share: float | None = None
    notes: tuple[str, ...] = ()
