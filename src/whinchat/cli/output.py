"""How the command line speaks: people read stderr and tables, programs read JSON on stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, redirect_stdout
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

if TYPE_CHECKING:
    from whinchat.publish.tables import Table as Content

# No emoji codes: ":train:" in a text or a path is what it is.
out = Console(highlight=False, emoji=False)
err = Console(stderr=True, highlight=False, emoji=False)


def emit_json(content: Any) -> None:
    """One JSON document on standard output, with nothing else beside it."""
    if not out.quiet:
        sys.stdout.write(json.dumps(content, ensure_ascii=False, indent=2) + "\n")


def progress_on_stderr() -> AbstractContextManager[TextIO]:
    """Inside, what libraries print goes to standard error, so that standard output holds the result alone."""
    return redirect_stdout(sys.stderr)


def print_shipped(found: Mapping[str, str], as_json: bool) -> None:
    """What comes with whinchat, by name, with its description."""
    if as_json:
        emit_json([{"name": name, "description": description} for name, description in found.items()])
        return
    width = max(map(len, found))
    for name, description in found.items():
        out.print(f"[bold]{name.ljust(width)}[/]  {description}", soft_wrap=True)


def print_table(content: Content, title: str | None = None) -> None:
    """A table of text cells as it stands, markup in it taken literally; nothing where it has no rows."""
    if content.rows:
        # What tells a row from the others is never cut.
        first, *others = content.columns
        table = Table(Column(first, no_wrap=True), *others, title=title)
        for row in content.rows:
            table.add_row(*map(Text, row))
        out.print(table)
