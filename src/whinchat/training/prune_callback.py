"""Stop a training whose validation loss promises too little."""

from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback


class TrainingPruned(Exception):  # noqa: N818  # it is no error
    """Training was stopped because of its validation loss.

    Attributes:
        share: share of the optimizer steps that were taken.
    """

    def __init__(self, share: float) -> None:
        super().__init__(f"stopped after {share:.0%} of the steps")
        self.share = share


class PruneByLoss(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
    """Raises ``TrainingPruned`` at an evaluation whose loss ``should_stop`` refuses.

    Args:
        should_stop: called with the number of the evaluation, from 1, and the validation loss. Trainings that are
            evaluated equally often have equal numbers at equal shares of their steps.
    """

    def __init__(self, should_stop: Callable[[int, float], bool]) -> None:
        self._should_stop = should_stop

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
        """Ask whether to stop, unless training has come to its end."""
        if state.global_step >= state.max_steps:
            return
        if self._should_stop(state.global_step // state.eval_steps, metrics["eval_loss"]):
            raise TrainingPruned(state.global_step / state.max_steps)
