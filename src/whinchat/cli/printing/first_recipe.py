"""Ask for the columns of a table, and print what ``whinchat init`` found and wrote."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from rich.prompt import IntPrompt

import whinchat
from whinchat.cli.output import err, out, print_line, print_table
from whinchat.data.column_guess import ColumnProfile
from whinchat.errors import WhinchatError
from whinchat.report.formatting import format_percent
from whinchat.report.text_table import TextTable


def ask_column(content: str, candidates: Sequence[ColumnProfile]) -> str:
    """Ask which column holds ``content``, such as "texts", and return its name; Enter takes the first."""
    if len(candidates) == 1:
        return candidates[0].name
    err.print(f"Which column holds the {content}?", markup=False)
    for number, column in enumerate(candidates, 1):
        detail = f"{column.distinct:,} different values, {column.mean_length:.0f} characters on average"
        err.print(f"  {number}. {column.name} ({detail})", soft_wrap=True, markup=False)
    numbers = [str(number) for number in range(1, len(candidates) + 1)]
    try:
        chosen = IntPrompt.ask("Number", console=err, choices=numbers, show_choices=False, default=1)
    except EOFError:
        raise WhinchatError("no column was chosen; name the columns with --text and --label, or use --yes") from None
    return candidates[chosen - 1].name


def print_init(result: whinchat.InitResult) -> None:
    """Print the labels, the choices that were made, and what to type next."""
    total = sum(result.labels.values())
    rows = tuple((label, f"{count:,}", format_percent(count / total)) for label, count in result.labels.items())
    columns = ""
    if result.text_column is not None:
        columns = f", texts from {result.text_column!r}, labels from {result.label_column!r}"
    print_line(f"{total:,} rows with {len(result.labels)} labels{columns}")
    print_table(TextTable("Labels", ("label", "rows", "share"), rows))
    for note in result.notes:
        print_line(f"note: {note}")
    for warning in result.check.warnings:
        print_line(f"warning: {warning}")
    print_line(result.check.summary)
    file = shlex.quote(str(result.path))
    out.print(f"\nWrote {result.path}. Read it, change it, and then type:", soft_wrap=True, markup=False)
    print_line(f"  whinchat recipes check {file}\n  whinchat run {file}")
