"""``whinchat predict``: texts in, labels and probabilities out, in the same order."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from whinchat.cli.output import err, out
from whinchat.errors import DataError

_BATCH = 64


def print_predictions(path: Path, texts: list[str] | None, as_json: bool) -> None:
    """Label ``texts``, or the lines of standard input."""
    given = texts or _lines()
    if not given:
        raise DataError("predict: no texts; give them as arguments, or one a line on standard input")
    from whinchat.evaluation.scoring import score
    from whinchat.run import load_calibrator, load_engine

    recipe, engine = load_engine(path)
    calibrator = load_calibrator(path, recipe)
    scores = score(engine, engine.template.encode(given), _BATCH)
    shares, answers = calibrator.probabilities(scores).tolist(), calibrator.decide(scores).tolist()
    unsure = [
        calibrator.threshold is not None and row[at] < calibrator.threshold
        for row, at in zip(shares, answers, strict=True)
    ]
    labels = recipe.task.labels
    if as_json:
        for text, row, at, doubt in zip(given, shares, answers, unsure, strict=True):
            line = {
                "text": text,
                "label": labels[at],
                "unsure": doubt,
                "probabilities": dict(zip(labels, row, strict=True)),
            }
            sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")
        return
    # Brackets in a label or a text are no markup.
    table = Table("label", *map(escape, labels), "text")
    for text, row, best, doubt in zip(given, shares, answers, unsure, strict=True):
        cells = [Text(f"{one:.3f}", style="bold" if at == best else "") for at, one in enumerate(row)]
        table.add_row(Text(f"unsure ({labels[best]})" if doubt else labels[best]), *cells, Text(text))
    out.print(table)


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
