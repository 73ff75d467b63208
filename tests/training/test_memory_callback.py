"""Training gives memory back every few steps and around validation."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from whinchat.training import memory_callback


def test_memory_goes_back_every_sixteen_steps_and_around_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    returned: list[int] = []
    state, callback = SimpleNamespace(global_step=0), memory_callback.GiveBackMemory()
    monkeypatch.setattr(memory_callback, "give_back_memory", lambda: returned.append(state.global_step))
    for step in range(1, 40):
        state.global_step = step
        validates = step == 20
        callback.on_step_end(None, state, SimpleNamespace(should_evaluate=validates))
        if validates:
            callback.on_evaluate(None, state, None)
    assert returned == [16, 20, 20, 32]
