"""Return memory to the system while training runs on a CPU."""

from typing import Any

from transformers import TrainerCallback

from whinchat.models.memory import give_back_memory

# Steps between two returns. The step after each asks the system for its memory anew, which takes a quarter of its time.
_STEPS = 16


class GiveBackMemory(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
    """Returns freed memory every few steps and around validation.

    Blocks for batches of unlike lengths leave gaps between them, which would add up to more than a step needs.
    """

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Return memory at every sixteenth step, and before the validation that may follow this step."""
        if state.global_step % _STEPS == 0 or control.should_evaluate:
            give_back_memory()

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Return what validation has freed."""
        give_back_memory()
