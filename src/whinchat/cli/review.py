"""What a person sees when a review of the labels is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.table import Table
from rich.text import Text

from whinchat.cli.output import emit_json, out
from whinchat.evaluation.label_noise import Review, ReviewedRow
from whinchat.report.formatting import format_count, format_duration, format_number, format_percent
from whinchat.storage.json_records import to_json
from whinchat.storage.review_folder import ReviewFolder

_PAIRS = 6


def print_review(review: Review, rows: Sequence[ReviewedRow], path: Path, as_json: bool) -> None:
    """The ``rows`` to look at first, and how many label errors there may be; or the record and the rows as JSON."""
    if as_json:
        emit_json({"review": str(path), **to_json(review), "top": [asdict(row) for row in rows]})
        return
    if rows:
        out.print(_rows_table(rows))
    share = review.estimated_errors / review.rows
    out.print(
        f"{format_count(review.suspects)} of {format_count(review.rows)} labels look wrong; for all rows together "
        "the estimate is "
        f"{format_count(round(review.estimated_errors))} label errors ({format_percent(share)}).",
        soft_wrap=True,
    )
    if review.pairs:
        pairs = Table("given", "looks like", "rows")
        for pair in review.pairs[:_PAIRS]:
            pairs.add_row(Text(pair.given), Text(pair.suspected), format_count(pair.rows))
        out.print(pairs)
    out.print(
        f"Out of fold ({len(review.folds)} folds): macro-F1 {format_number(review.macro_f1)}, accuracy "
        f"{format_number(review.accuracy)} against the labels given; {format_duration(review.seconds)}",
        soft_wrap=True,
    )
    folder = ReviewFolder(path)
    out.print(f"All rows: {folder.table}", soft_wrap=True, markup=False)


def _rows_table(rows: Sequence[ReviewedRow]) -> Table:
    table = Table("row", "label", "p", "model says", "p", "text", title="Labels to look at first")
    for row in rows:
        table.add_row(
            str(row.row),
            Text(row.label),
            format_number(row.label_probability),
            Text(row.model_label),
            format_number(row.model_probability),
            # One line a row: a text's own line breaks would look like rows.
            Text(" ".join(row.text.split())),
        )
    return table
