"""Trackers, the transformers library's own: told of a run from its first step to its last figures."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.integrations import TensorBoardCallback, get_reporting_integration_callbacks

from whinchat.errors import RecipeError


def check_trackers(names: Sequence[str]) -> None:
    """Make sure that every tracker of ``report_to`` is known and installed.

    Raises:
        RecipeError: one is not.
    """
    for name in names:
        try:
            for tracker in get_reporting_integration_callbacks([name]):
                tracker()
        except (ValueError, RuntimeError, ImportError) as fault:
            raise RecipeError(
                f"train.report_to: {name} cannot be used ({' '.join(str(fault).split())}); install it or take it out"
            ) from None


class Trackers(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
    """The trackers of ``report_to`` as one callback, which outlives training: they are told of evaluations, too.

    One that cannot begin is an error, for it was asked for; one that fails later is left out of what follows, with a
    warning, for it is not worth a training run.

    Args:
        names: those of ``train.report_to``.
        folder: of those that write files; None for where they do by themselves.
    """

    def __init__(self, names: Sequence[str], folder: Path | None = None) -> None:
        self._names = names
        self._folder = folder
        self._begun = False
        self._running: list[tuple[str, Any]] = []
        self._stand: tuple[Any, ...] = ()
        self._model: Any = None

    def take_up(self, args: Any, state: Any, control: Any, model: Any) -> None:
        """Where training stands that was over before this process began; they begin if there is more to tell."""
        self._stand, self._model = (args, state, control), model

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **more: Any) -> None:
        """Begin, as a part of training.

        Raises:
            RecipeError: a tracker cannot, be it that its server does not answer.
        """
        self.take_up(args, state, control, model)
        self._begun = True
        for name in self._names:
            for kind in get_reporting_integration_callbacks([name]):
                try:
                    one = self._made(kind, state.global_step)
                    one.on_train_begin(args, state, control, model=model, **more)
                except Exception as fault:  # noqa: BLE001  # each library has its own
                    raise RecipeError(
                        f"train.report_to: {name} cannot begin ({_said(fault)}); mend that or take it out (a run goes "
                        "on without it by --resume --set train.report_to=none)"
                    ) from None
                self._running.append((name, one))

    def log(self, figures: Mapping[str, float]) -> None:
        """Tell figures of the whole run, at the step where training stands."""
        if self._stand and not self._begun:
            args, state, control = self._stand
            self.on_train_begin(args, state, control, self._model)
        self._tell("on_log", *self._stand, model=self._model, logs=dict(figures))

    def finish(self) -> None:
        """There is no more to tell; a run that ends without this is for trackers one that was broken off."""
        self._tell("on_train_end", *self._stand, model=self._model)

    def _made(self, kind: Callable[[], Any], step: int) -> Any:
        one = kind()
        if isinstance(one, TensorBoardCallback):
            from torch.utils.tensorboard import SummaryWriter

            logs = one.logging_dir or (None if self._folder is None else str(self._folder / "tensorboard"))
            # What a killed run logged after its last checkpoint is logged again.
            one.tb_writer = SummaryWriter(logs, purge_step=step + 1 if step else None)
        return one

    def _tell(self, event: str, *stand: Any, **more: Any) -> None:
        for name, one in list(self._running):
            try:
                getattr(one, event)(*stand, **more)
            except Exception as fault:  # noqa: BLE001
                self._running.remove((name, one))
                logging.getLogger("whinchat").warning(
                    f"train.report_to: {name} is told no more, it failed ({_said(fault)}); the run goes on"
                )


def _passed_on(event: str) -> Callable[..., None]:
    def pass_on(self: Trackers, *stand: Any, **more: Any) -> None:
        self._tell(event, *stand, **more)

    return pass_on


# All that Trainer tells, except that training is over: the run is not.
for _event in vars(TrainerCallback):
    if _event.startswith("on_") and _event not in ("on_train_begin", "on_train_end"):
        setattr(Trackers, _event, _passed_on(_event))


def _said(fault: Exception) -> str:
    return " ".join(f"{type(fault).__name__}: {fault}".split())
