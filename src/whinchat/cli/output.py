"""Write to the terminal: results to standard output, progress and errors to standard error."""

from __future__ import annotations

import codecs
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, redirect_stdout
from typing import Any, TextIO

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Column, Table
from rich.text import Text

from whinchat.report.text_table import TextTable
from whinchat.report.visible_text import ascii_json, visible, visible_json


class VisibleConsole(Console):
    """A console on which no text can move the cursor, set a colour or hide another text."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Return the segments of ``renderable`` with visible characters only; rich adds its own colours afterwards."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)


# emoji=False: ":train:" in a text or a path stays as it is.
out = VisibleConsole(highlight=False, emoji=False)
err = VisibleConsole(stderr=True, highlight=False, emoji=False)


def emit_json(content: Any, indent: int | None = 2) -> None:
    """Write ``content`` to standard output as one JSON document, in ASCII where the output's encoding is not UTF-8."""
    if out.quiet:
        return
    text = visible_json(content, indent) + "\n"
    is_utf8 = codecs.lookup(sys.stdout.encoding or "utf-8").name == "utf-8"
    sys.stdout.write(text if is_utf8 else ascii_json(text))
    # A program that reads from a pipe waits for it, for instance for the address of a server.
    sys.stdout.flush()


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
    """Print a table as ``print_lines`` does; markup in ``str`` cells and in the title takes effect."""
    lines = [[_marked_up(cell) for cell in line] for line in (columns, *rows)]
    print_lines(lines, None if title is None else _marked_up(title))


def print_table(content: TextTable, title: str | None = None) -> None:
    """Print a table of text cells without interpreting markup in them; print nothing if it has no rows."""
    if content.rows:
        lines = [[*map(Text, line)] for line in (content.columns, *content.rows)]
        print_lines(lines, None if title is None else Text(title))


def print_facts(facts: Iterable[tuple[str, str]], title: str) -> None:
    """Print a table of two columns without a heading: names and what is known of each."""
    print_lines([[Text(name), Text(fact)] for name, fact in facts], Text(title), has_heading=False)


def print_lines(lines: Sequence[Sequence[Text]], title: Text | None = None, *, has_heading: bool = True) -> None:
    """Print a table, whose first line is its heading, in the first of these forms that fits the terminal.

    - a line for each row;
    - a column for each row, which suits few rows of many columns;
    - the same two with cells that are broken between words;
    - a block for each row, with a line for each of its cells.

    Where standard output is no terminal, each row is one line, with tabs between its cells, for grep and cut.
    """
    if not out.is_terminal:
        if not out.quiet:
            # Not through the console, which turns tabs into spaces.
            out.file.writelines(_tabbed(line) for line in (lines if title is None else ([title], *lines)))
        return
    if not has_heading:
        out.print(_box(lines, _narrowed(lines), title, has_heading=False))
        return
    columns = list(zip(*lines, strict=True))
    for form, widths in (
        (lines, _natural_widths(lines)),
        (columns, _natural_widths(columns)),
        (lines, _narrowed(lines)),
        (columns, _narrowed(columns)),
    ):
        if widths is not None and sum(widths) <= _room(widths):
            out.print(_box(form, widths, title))
            return
    if title is not None:
        out.print(title)
    for line in lines[1:]:
        block = list(zip(lines[0], line, strict=True))
        out.print(_box(block, _narrowed(block), None, has_heading=False))


def fits_terminal(lines: Sequence[Sequence[Text]]) -> bool:
    """Return whether a table fits the terminal if nothing but its last column is broken."""
    widths = _natural_widths(lines)
    return sum(widths[:-1]) + min(widths[-1], _PROSE_WIDTH) <= _room(widths)


# Columns of longer texts may be broken anywhere, in lines of at least this many characters.
_PROSE_WIDTH = 20


def _tabbed(line: Sequence[Text]) -> str:
    """Return the cells of a row with tabs between them; a tab or a line break inside a cell becomes a space."""
    return "\t".join(visible(re.sub(r"\s", " ", cell.plain)) for cell in line) + "\n"


def _room(widths: Sequence[int]) -> int:
    """Return the terminal's columns for cells: each has a space on both sides and a line to its left."""
    return out.width - 3 * len(widths) - 1


def _natural_widths(lines: Sequence[Sequence[Text]]) -> list[int]:
    """Return the width of each column if no cell is broken."""
    return [max(_longest(cell, "\n") for cell in column) for column in zip(*lines, strict=True)]


def _narrowed(lines: Sequence[Sequence[Text]]) -> list[int] | None:
    """Return widths of the columns that fit the terminal and break no word, except in long texts; None if none do."""
    widths = _natural_widths(lines)
    words = [max(_longest(cell, None) for cell in column) for column in zip(*lines, strict=True)]
    least = [_PROSE_WIDTH if width > 2 * _PROSE_WIDTH else word for width, word in zip(widths, words, strict=True)]
    if sum(least) > _room(widths):
        return None
    while sum(widths) > _room(widths):
        widest = max((width, number) for number, width in enumerate(widths) if width > least[number])[1]
        widths[widest] -= 1
    return widths


def _longest(cell: Text, separator: str | None) -> int:
    return max((cell_len(part) for part in cell.plain.split(separator)), default=0)


def _marked_up(cell: str | Text) -> Text:
    return Text.from_markup(cell) if isinstance(cell, str) else cell


def _box(
    lines: Sequence[Sequence[Text]], widths: Sequence[int] | None, title: Text | None, *, has_heading: bool = True
) -> Table:
    """Return a table with columns of ``widths``; None for the widths that rich chooses."""
    names = lines[0] if has_heading else [Text()] * len(lines[0])
    columns = (
        Column(name, overflow="fold", width=None if widths is None else widths[number])
        for number, name in enumerate(names)
    )
    rows = lines[has_heading:]
    table = Table(*columns, title=title, show_header=has_heading)
    table.show_lines = any("\n" in cell.plain for row in rows for cell in row)
    for row in rows:
        table.add_row(*row)
    return table
