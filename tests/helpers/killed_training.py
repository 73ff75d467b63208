"""Kill a training in this process at one of its steps."""

from __future__ import annotations

from typing import Any

import pytest

from whinchat.training.train import AnswerTrainer


class Killed(BaseException):
    """Ends a training as a signal would."""


def kill_at_step(number: int, monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Let the losses of all trainings raise ``Killed`` once, at the call ``number``; return a list that grows by each.

    The count goes on over several trainings, so that steps after a resumption can be counted, too.
    """
    calls: list[None] = []
    real = AnswerTrainer.compute_loss

    def dying(self: Any, *arguments: Any, **named: Any) -> Any:
        calls.append(None)
        if len(calls) == number:
            raise Killed
        return real(self, *arguments, **named)

    monkeypatch.setattr(AnswerTrainer, "compute_loss", dying)
    return calls
