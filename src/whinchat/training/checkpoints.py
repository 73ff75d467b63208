"""Which checkpoint a killed run can go on from."""

from __future__ import annotations

import json
from pathlib import Path


def last_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint in ``folder``; None where there is none.

    Trainer writes ``trainer_state.json`` last, so a checkpoint that a kill cut short has none, or a torn one.
    """
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rsplit("-", 1)[-1]), reverse=True)
    return next((path for path in found if _complete(path)), None)


def _complete(checkpoint: Path) -> bool:
    try:
        json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return False
    return True
