"""``whinchat predict``: texts in, labels and probabilities out, in the same order."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from whinchat.cli.output import err, out
from whinchat.errors import DataError

if TYPE_CHECKING:
    from whinchat.inference.predictor import Predictions


def print_predictions(path: Path, texts: list[str] | None, as_json: bool) -> None:
    """Label ``texts``, or the lines of standard input."""
    from whinchat.inference.predictor import Predictor

    given = texts or _lines()
    if not given:
        raise DataError("predict: no texts; give them as arguments, or one a line on standard input")
    predictor = Predictor.load(path)
    show = _print_lines if as_json else _print_table
    show(given, predictor.predict(given))


def _print_lines(texts: Sequence[str], predictions: Predictions) -> None:
    for at, text in enumerate(texts):
        sys.stdout.write(json.dumps({"text": text, **predictions.to_dict(at)}, ensure_ascii=False) + "\n")


def _print_table(texts: Sequence[str], predictions: Predictions) -> None:
    # Brackets in a label or a text are no markup.
    table = Table("label", *map(escape, predictions.labels), "text")
    for at, text in enumerate(texts):
        cells = [
            Text(f"{one:.3f}", style="bold" if label == predictions.label_indices[at] else "")
            for label, one in enumerate(predictions.probabilities[at])
        ]
        table.add_row(Text(_name(predictions, at)), *cells, Text(text))
    out.print(table)


def _name(predictions: Predictions, at: int) -> str:
    """The label of text ``at`` as people read it."""
    label = predictions.label_names[at]
    return f"unsure ({label})" if predictions.unsure[at] else label


def _lines() -> list[str]:
    if sys.stdin.isatty():
        err.print("Type texts, one a line; Ctrl-D ends.")
    raw = sys.stdin.buffer.read()
    try:
        lines = raw.decode("utf-8").split("\n")
    except UnicodeDecodeError as fault:
        line = raw.count(b"\n", 0, fault.start) + 1
        raise DataError(f"standard input:{line}: byte {fault.start} is not UTF-8; convert the text to UTF-8") from None
    if not lines[-1]:
        lines.pop()
    return [line.removesuffix("\r") for line in lines]
