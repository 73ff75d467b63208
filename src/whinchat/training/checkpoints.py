"""Find the checkpoint from which a killed run can continue."""

import json
from pathlib import Path


def last_checkpoint(folder: Path) -> Path | None:
    """Return the newest complete checkpoint in ``folder``, or None if there is none.

    Trainer writes ``trainer_state.json`` last, so a checkpoint that a kill cut short lacks the file or holds a part.
    """
    checkpoints = sorted(folder.glob("checkpoint-*"), key=checkpoint_step, reverse=True)
    return next((path for path in checkpoints if _is_complete(path)), None)


def checkpoint_step(checkpoint: Path) -> int:
    """Return the optimizer step at which ``checkpoint`` was written, which its name tells."""
    return int(checkpoint.name.rsplit("-", 1)[-1])


def _is_complete(checkpoint: Path) -> bool:
    try:
        json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return False
    return True
