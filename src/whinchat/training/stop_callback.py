"""Write a checkpoint before a stop signal ends training."""

import signal
import threading
from contextlib import ExitStack
from typing import Any, Self

from transformers import TrainerCallback

from whinchat.progress import logger
from whinchat.training.distributed import largest_of_processes
from whinchat.training.prune_callback import TrainingPruned
from whinchat.training.stop_signals import on_stop_signal


class StopAfterCheckpoint(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
    """Delay a stop signal to the end of the optimizer step, save a checkpoint there, and let the signal act then.

    Use the callback as a context around ``Trainer.train``. The signal acts as it would have without this context:
    Ctrl-C raises KeyboardInterrupt, and the command line ends with its message. Processes that train together stop
    after the same step, whichever of them got the signal.
    """

    def __init__(self) -> None:
        self._received = 0
        self._stopping = 0
        self._handlers = ExitStack()

    def __enter__(self) -> Self:
        self._handlers.enter_context(on_stop_signal(self._remember))
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        self._handlers.close()
        if self._received and kind in (None, TrainingPruned):
            # The signal came after the last step, whose checkpoint is saved in any case, or training needs none.
            signal.raise_signal(self._received)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Ask for a checkpoint, and for the log that belongs to one, if a process has received a signal."""
        self._stopping = largest_of_processes(self._received)
        if self._stopping:
            control.should_save = control.should_log = True

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Let the signal act, now that the checkpoint is on the disk."""
        if self._stopping:
            logger.info("Checkpoint of step %d saved", state.global_step)
            self._handlers.close()
            signal.raise_signal(self._stopping)

    def _remember(self, received: signal.Signals) -> None:
        self._received = received
        message = "%s: stopping with a checkpoint after this step; a second signal stops at once"
        # In a thread of its own, because the main thread may be in the middle of writing to the same stream.
        threading.Thread(target=logger.info, args=(message, received.name), daemon=True).start()
