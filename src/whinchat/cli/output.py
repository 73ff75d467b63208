"""Write to the terminal: results to standard output, progress and errors to standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, redirect_stdout
from typing import Any, TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Column, Table
from rich.text import Text

from whinchat.report.text_table import TextTable
from whinchat.report.visible_text import visible, visible_json


class VisibleConsole(Console):
    """A console on which no text can move the cursor, set a colour or hide another text."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Return the segments of ``renderable`` with visible characters only; rich adds its own colours afterwards."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)


# emoji=False: ":train:" in a text or a path stays as it is.
out = VisibleConsole(highlight=False, emoji=False)
err = VisibleConsole(stderr=True, highlight=False, emoji=False)


def emit_json(content: Any) -> None:
    """Write ``content`` to standard output as one JSON document."""
    if not out.quiet:
        sys.stdout.write(visible_json(content, indent=2) + "\n")


def print_result(as_json: bool, content: Any, print_text: Callable[[], None]) -> None:
    """Write ``content`` as one JSON document if ``as_json`` is true; else call ``print_text``, which prints it."""
    if as_json:
        emit_json(content)
    else:
        print_text()


def print_line(text: str) -> None:
    """Print ``text`` as it is: markup in it is not interpreted, and long lines are not broken."""
    out.print(text, soft_wrap=True, markup=False)


def progress_on_stderr() -> AbstractContextManager[TextIO]:
    """Send what libraries print to standard error, so that standard output holds nothing but the result."""
    return redirect_stdout(sys.stderr)


def print_shipped(descriptions: Mapping[str, str], as_json: bool) -> None:
    """Print the names and descriptions of recipes or arenas that come with whinchat."""
    if as_json:
        emit_json([{"name": name, "description": description} for name, description in descriptions.items()])
        return
    width = max(map(len, descriptions))
    for name, description in descriptions.items():
        out.print(f"[bold]{name.ljust(width)}[/]  {description}", soft_wrap=True)


def print_grid(columns: Sequence[str], rows: Iterable[Sequence[str | Text]], title: str | Text | None = None) -> None:
    """Print a table whose cells break where the terminal is too narrow; markup in ``str`` cells takes effect."""
    table = Table(*columns, title=title)
    for row in rows:
        table.add_row(*row)
    out.print(table)


def print_table(content: TextTable, title: str | None = None) -> None:
    """Print a table of text cells without interpreting markup in them; print nothing if it has no rows.

    A table that is too wide for the terminal is transposed if that makes it narrower.
    """
    if not content.rows:
        return
    lines = [content.columns, *content.rows]
    table = _rich_table(lines, title)
    if _unbroken_width(table) > out.width:
        transposed = _rich_table(list(zip(*lines, strict=True)), title)
        table = min(table, transposed, key=_unbroken_width)
    out.print(table)


def _rich_table(lines: Sequence[Sequence[str]], title: str | None) -> Table:
    """Return ``lines`` as a table whose first line is the heading."""
    (first, *others), *rows = lines
    # The first column names the rows and is never broken.
    columns = (Column(Text(name), overflow="fold") for name in others)
    table = Table(Column(Text(first), no_wrap=True), *columns, title=None if title is None else Text(title))
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _unbroken_width(table: Table) -> int:
    """Return how many terminal columns the table takes if no cell is broken."""
    return out.measure(table, options=out.options.update(width=10_000)).maximum
