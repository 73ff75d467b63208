"""Print what a search for settings has found."""

from __future__ import annotations

from pathlib import Path

import whinchat
from whinchat.cli.output import print_line, print_table
from whinchat.report.tune_text import conclusion, trials_table


def print_tune(result: whinchat.TuneResult, tuned: Path | None, table: Path) -> None:
    """Print the trials, which is best, and the recipe with its settings.

    Args:
        result: what was found.
        tuned: the recipe; None where no trial was completed.
        table: the file with all trials.
    """
    content = trials_table(result)
    print_table(content, content.caption)
    for sentence in conclusion(result):
        print_line(sentence)
    print_line(f"All trials: {table}")
    if tuned is not None:
        print_line(f"Recipe: {tuned}; train it with `whinchat run {tuned}`")
