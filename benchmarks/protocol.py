"""What driver and worker say to each other: one JSON object a line, a command in, an answer out.

Every answer has ``ok``. A refusal has ``unavailable`` (the contestant cannot run here, and why) or ``error``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Measured:
    """One measured stretch: ``examples`` in ``seconds`` of wall-clock time; ``facts`` say what else was seen."""

    examples: float
    seconds: float
    facts: dict[str, Any] = field(default_factory=dict)


class UnavailableError(Exception):
    """The contestant cannot run on this machine; the message says why. Not a failure."""


def peak_memory_bytes() -> int | None:
    """The most memory this process ever had resident (VmHWM); None where the system does not say."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    kibibytes = (line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return next((1024 * int(one) for one in kibibytes), None)


def encode(message: dict[str, Any]) -> str:
    """One message as a line."""
    return json.dumps(message, ensure_ascii=True) + "\n"


def decode(line: str) -> dict[str, Any]:
    """The message of a line.

    Raises:
        ValueError: the line is no JSON object.
    """
    message = json.loads(line)
    if not isinstance(message, dict):
        raise ValueError(f"expected a JSON object, found {line[:80]!r}")
    return message
