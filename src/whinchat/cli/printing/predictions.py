"""Print predictions, and the outcome of labelling a file, of an export or of a push."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape
from rich.text import Text

import whinchat
from whinchat.cli.output import emit_json, out, print_grid, print_line, print_table
from whinchat.report.formatting import format_bytes
from whinchat.report.text_table import TextTable
from whinchat.report.visible_text import visible_json


def print_predictions(
    texts: Sequence[str], faults: Sequence[str], predictions: whinchat.Predictions, as_json: bool
) -> None:
    """Print the label and the probabilities of each text: a table, or one JSON object on each line.

    Args:
        texts: the texts.
        faults: why there is no prompt for a text; empty for a text with a prediction.
        predictions: the predictions for the texts without a fault, in their order.
        as_json: whether to print JSON.
    """
    predicted_rows = itertools.count()
    rows_of = [None if fault else next(predicted_rows) for fault in faults]
    if as_json:
        for text, fault, row in zip(texts, faults, rows_of, strict=True):
            answer = {"error": fault} if row is None else predictions.to_dict(row)
            sys.stdout.write(visible_json({"text": text, **answer}) + "\n")
        return
    # Brackets in a label or a text must not be read as markup.
    rows = []
    for text, fault, row in zip(texts, faults, rows_of, strict=True):
        if row is None:
            rows.append((Text("error"), *[Text("")] * len(predictions.labels), Text(f"{text} ({fault})")))
            continue
        label, best = predictions.label_names[row], predictions.label_indices[row]
        probabilities = [Text(f"{probability:.3f}") for probability in predictions.probabilities[row]]
        probabilities[best].style = "bold"
        rows.append((Text(f"unsure ({label})" if predictions.unsure[row] else label), *probabilities, Text(text)))
    print_grid(("label", *map(escape, predictions.labels), "text"), rows)


def print_labelled_files(
    counts_of: dict[str, whinchat.LabelCounts], error_column: str, seconds: float, as_json: bool
) -> None:
    """Print how many rows of each file got which label.

    Args:
        counts_of: the path of each labelled file, with its counts.
        error_column: the column that says why a row could not be read.
        seconds: how long the labelling took.
        as_json: print one JSON document instead.
    """
    counts = list(counts_of.values())
    labels = list(counts[0].labels)
    total = whinchat.LabelCounts.total(counts, labels)
    if as_json:
        emit_json({**vars(total), "files": [{"out": path, **vars(count)} for path, count in counts_of.items()]})
        return
    rows: list[Sequence[str | Text]] = []
    for name, count in (counts_of | {"all": total} if len(counts) > 1 else counts_of).items():
        cells = (*(count.labels.get(label, 0) for label in labels), count.unsure, count.bad, count.rows)
        rows.append((Text(name), *(f"{cell:,}" for cell in cells)))
    print_grid(("", *map(escape, labels), "unsure", "could not be read", "rows"), rows)
    if total.bad:
        rows_are = "1 row" if total.bad == 1 else f"{total.bad:,} rows"
        print_line(f"{rows_are} could not be read; the column {error_column} says why.")
    print_line(f"{total.rows:,} row{'' if total.rows == 1 else 's'} in {seconds:,.0f} s")


def print_export(proof: whinchat.ExportProof, folder: Path) -> None:
    """Print how far the answers of each exported file differ from those of the classifier."""
    for file in proof.files:
        print_line(
            f"{folder / file.file}: {file.flipped} of {proof.texts} labels differ from the classifier's own, "
            f"probabilities differ by at most {file.largest_difference:.4f} (read with {file.reader})"
        )
        if file.flipped_uncalibrated is not None:
            print_line(f"  without calibration, as in free generation: {file.flipped_uncalibrated} labels differ")
    if proof.not_carried:
        print_line(f"The export does not clean its texts; do these steps before it: {', '.join(proof.not_carried)}")


def print_push(result: whinchat.PushResult, repo_id: str) -> None:
    """Print what was pushed, or after a dry run what would be."""
    if result.url is None:
        print_table(TextTable("", ("file", "bytes"), tuple((file.path, f"{file.size:,}") for file in result.files)))
    for warning in result.warnings:
        out.print(f"[bold red]warning:[/] {escape(warning)}", soft_wrap=True)
    done = f"Would push to {repo_id}" if result.url is None else f"Pushed to {result.url}"
    print_line(
        f"{done}: {len(result.files)} files, {format_bytes(result.size)}; they quote {result.quoted_texts} texts of "
        "the data"
    )
