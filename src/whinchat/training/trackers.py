"""Experiment trackers of the transformers library, notified from the first training step to the last evaluation."""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partialmethod
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.integrations import TensorBoardCallback, get_reporting_integration_callbacks

from whinchat.errors import RecipeError


def check_trackers(names: Sequence[str]) -> None:
    """Check that transformers knows every tracker of ``train.report_to`` and that its library is installed.

    Raises:
        RecipeError: a tracker is unknown or not installed.
    """
    for name in names:
        try:
            for callback in get_reporting_integration_callbacks([name]):
                callback()
        except (ValueError, RuntimeError, ImportError) as error:
            raise RecipeError(
                f"train.report_to: {name} cannot be used ({' '.join(str(error).split())}); install it or take it out"
            ) from None


class Trackers(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
    """All trackers of ``train.report_to`` as one Trainer callback that stays open after training.

    Trainer ends its own trackers with the last step. This callback keeps them open, so that figures measured after
    training reach them too. A tracker that cannot start is an error, because the user asked for it. A tracker that
    fails later is dropped with a warning, because a training run is worth more than its log.

    Args:
        names: the names in ``train.report_to``.
        folder: where trackers that write files put them; None for each tracker's own default.
    """

    def __init__(self, names: Sequence[str], folder: Path | None = None) -> None:
        self._names, self._folder = names, folder
        self._started = False
        self._callbacks: list[tuple[str, Any]] = []
        # Arguments, state and control of the Trainer, which every callback event receives.
        self._context: tuple[Any, ...] = ()
        self._model: Any = None

    def resume(self, args: Any, state: Any, control: Any, model: Any) -> None:
        """Remember where training ended in an earlier process; the trackers start with the next figures."""
        self._context, self._model = (args, state, control), model

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Start every tracker.

        Raises:
            RecipeError: a tracker cannot start, for instance because its server does not answer.
        """
        self.resume(args, state, control, model)
        self._started = True
        for name in self._names:
            try:
                for make_callback in get_reporting_integration_callbacks([name]):
                    callback = self._make(make_callback, state.global_step)
                    callback.on_train_begin(args, state, control, model=model, **kwargs)
                    self._callbacks.append((name, callback))
            except Exception as error:  # noqa: BLE001  # each tracker's library raises exceptions of its own
                raise RecipeError(
                    f"train.report_to: {name} cannot start ({_one_line(error)}); repair it, or go on without it: "
                    "--resume --set train.report_to=none"
                ) from None

    def log(self, metrics: Mapping[str, float]) -> None:
        """Send metrics of the whole run to every tracker, at the last training step."""
        if self._context and not self._started:
            args, state, control = self._context
            self.on_train_begin(args, state, control, self._model)
        self._notify("on_log", *self._context, model=self._model, logs=dict(metrics))

    def finish(self) -> None:
        """Close every tracker. Without this call, the trackers show the run as unfinished."""
        self._notify("on_train_end", *self._context, model=self._model)

    def _make(self, make_callback: Callable[[], Any], step: int) -> Any:
        callback = make_callback()
        if isinstance(callback, TensorBoardCallback):
            # TensorBoard is an optional extra.
            from torch.utils.tensorboard import SummaryWriter

            folder = callback.logging_dir or (None if self._folder is None else str(self._folder / "tensorboard"))
            # A resumed run repeats the steps after the last checkpoint, so their old entries are dropped.
            callback.tb_writer = SummaryWriter(folder, purge_step=step + 1 if step else None)
        return callback

    def _notify(self, event: str, *context: Any, **kwargs: Any) -> None:
        for name, callback in list(self._callbacks):
            try:
                getattr(callback, event)(*context, **kwargs)
            except Exception as error:  # noqa: BLE001  # each tracker's library raises exceptions of its own
                self._callbacks.remove((name, callback))
                logging.getLogger("whinchat").warning(
                    f"train.report_to: {name} failed and gets no further figures ({_one_line(error)}); the run goes on"
                )


# Forward every event that Trainer knows to the trackers. The end of training is not forwarded: the run goes on.
for _event in vars(TrainerCallback):
    if _event.startswith("on_") and _event not in ("on_train_begin", "on_train_end"):
        setattr(Trackers, _event, partialmethod(Trackers._notify, _event))


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
