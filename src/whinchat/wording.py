"""Words that messages, reports and logs share."""

from collections.abc import Sequence


def counted(number: int, noun: str) -> str:
    """Return a number of things, such as "1 text" or "1,200 texts"; ``noun`` is one that takes an s."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def name_rows(rows: Sequence[int], most: int = 5) -> str:
    """Return the numbers of the first ``most`` rows, such as "row 3" or "rows 0, 1, 2, 3, 4, ..."."""
    named = ", ".join(map(str, rows[:most]))
    return f"{'row' if len(rows) == 1 else 'rows'} {named}{', ...' if len(rows) > most else ''}"
