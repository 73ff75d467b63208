"""How the command line speaks: people read stderr and tables, programs read JSON on stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, redirect_stdout
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from whinchat.report.text_table import TextTable

if TYPE_CHECKING:
    pass

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


def print_table(content: TextTable, title: str | None = None) -> None:
    """A table of text cells as it stands, markup in it taken literally; nothing where it has no rows.

    Where its lines are too long for the terminal it is laid on its side, if that makes them shorter.
    """
    if not content.rows:
        return
    lines = [content.columns, *content.rows]
    table = _set(lines, title)
    if _width(table) > out.width:
        table = min(table, _set(list(zip(*lines, strict=True)), title), key=_width)
    out.print(table)


def _set(lines: Sequence[Sequence[str]], title: str | None) -> Table:
    """``lines`` as a table, the first of them on top."""
    (first, *others), *rows = lines
    # What tells a row from the others is never cut.
    named = (Column(Text(name), overflow="fold") for name in others)
    table = Table(Column(first, no_wrap=True), *named, title=title)
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _width(table: Table) -> int:
    """Columns of the terminal that it takes where no cell is broken."""
    return out.measure(table, options=out.options.update(width=10_000)).maximum
