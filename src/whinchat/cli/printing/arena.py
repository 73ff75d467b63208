"""Print the results of an arena."""

from __future__ import annotations

from pathlib import Path

import whinchat
from whinchat.cli.output import emit_json, print_line, print_table


def print_arena(results: whinchat.ArenaResults, folder: Path, as_json: bool) -> None:
    """Print the results of every method, the comparisons and the conclusions, or one JSON document."""
    # Imported here because it loads scipy, which other commands do not need.
    from whinchat.arena.arena_tables import brief_results_table, comparisons_table, conclusions

    if as_json:
        emit_json({"arena": str(folder), **results.to_dict(), "sentences": list(conclusions(results))})
        return
    for table in (brief_results_table(results), comparisons_table(results)):
        print_table(table, title=table.caption)
    for sentence in conclusions(results):
        print_line(sentence)
    print_line(f"All results: {folder / 'results.md'}")
