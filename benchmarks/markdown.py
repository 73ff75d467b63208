"""Tables in Markdown, and spreads of rounds."""

from collections.abc import Mapping, Sequence


def format_spread(rate: Mapping[str, float], digits: int, unit: str = "") -> str:
    """Return the median with the least and the greatest value."""
    return f"{rate['median']:.{digits}f}{unit} ({rate['min']:.{digits}f} to {rate['max']:.{digits}f})"


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}", *lines]) + "\n"
