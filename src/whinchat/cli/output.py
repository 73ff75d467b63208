"""How the command line speaks: people read stderr and tables, programs read JSON on stdout."""

from __future__ import annotations

import json
import sys
from contextlib import AbstractContextManager, redirect_stdout
from typing import Any, TextIO

from rich.console import Console

# No emoji codes: ":train:" in a text or a path is what it is.
out = Console(highlight=False, emoji=False)
err = Console(stderr=True, highlight=False, emoji=False)


def emit_json(content: Any) -> None:
    """One JSON document on standard output, with nothing else beside it."""
    sys.stdout.write(json.dumps(content, ensure_ascii=False, indent=2) + "\n")


def progress_on_stderr() -> AbstractContextManager[TextIO]:
    """Inside, what libraries print goes to standard error, so that standard output holds the result alone."""
    return redirect_stdout(sys.stderr)


def share(value: float) -> str:
    """A figure between 0 and 1 as people compare them."""
    return f"{value:.3f}"


def minutes(seconds: float) -> str:
    """Such as ``4 min 05 s``."""
    whole = round(seconds)
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"
