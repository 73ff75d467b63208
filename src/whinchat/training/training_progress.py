"""Show the progress of training."""

from contextlib import ExitStack
from typing import Any

from transformers import TrainerCallback

from whinchat.progress import Progress, progress
from whinchat.training.launch import process_rank


class TrainingProgress(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
    """Show the optimizer steps and the last logged loss; ``close`` must be called, also when training fails."""

    def __init__(self) -> None:
        self._open = ExitStack()
        self._bar = Progress()
        self._step = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start at the step from which training continues."""
        if process_rank() == 0:
            self._step = state.global_step
            self._bar = self._open.enter_context(progress("Training", state.max_steps, "steps", initial=self._step))

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Count the step."""
        self._bar.update(state.global_step - self._step)
        self._step = state.global_step

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        """Show the loss beside the count."""
        if logs and "loss" in logs:
            self._bar.note(f"loss {logs['loss']:.3f}")

    def close(self) -> None:
        """End the bar or the log lines."""
        self._open.close()
