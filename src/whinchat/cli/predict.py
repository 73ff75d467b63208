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
    from whinchat.use.labeller import Answers


def print_predictions(path: Path, texts: list[str] | None, reestimate_priors: bool, as_json: bool) -> None:
    """Label ``texts``, or the lines of standard input; beside that, if asked, under re-estimated label shares."""
    given = texts or _lines()
    if not given:
        raise DataError("predict: no texts; give them as arguments, or one a line on standard input")
    from whinchat.evaluation.reestimation import reanswer, require
    from whinchat.use.labeller import Answers, Labeller

    labeller = Labeller.load(path)
    calibrator = labeller.calibrator
    if reestimate_priors:
        require(calibrator, len(given), path)
    scores = labeller.score(given)
    both = reanswer(calibrator, scores) if reestimate_priors else None
    again = Answers.of(calibrator, both.probabilities, both.answers) if both else None
    show = _print_lines if as_json else _print_table
    show(given, labeller.answer(scores), again, both.reestimation.trusted if both else False)
    if both:
        from whinchat.cli.summary import print_reestimation

        # With --json every line of standard output is a text's.
        print_reestimation(both.reestimation, err if as_json else out)


def _print_lines(texts: Sequence[str], plain: Answers, again: Answers | None, trusted: bool) -> None:
    for at, text in enumerate(texts):
        line = {"text": text, **plain.line(at)}
        if again is not None:
            line["reestimated"] = {**again.line(at), "trusted": trusted}
        sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")


def _print_table(texts: Sequence[str], plain: Answers, again: Answers | None, trusted: bool) -> None:
    # Brackets in a label or a text are no markup.
    extra = [] if again is None else ["re-estimated" if trusted else "re-estimated (not trusted)"]
    table = Table("label", *extra, *map(escape, plain.labels), "text")
    for at, text in enumerate(texts):
        cells = [
            Text(f"{one:.3f}", style="bold" if label == plain.best[at] else "")
            for label, one in enumerate(plain.probabilities[at])
        ]
        beside = []
        if again is not None:
            changed = again.best[at] != plain.best[at]
            beside = [Text(_name(again, at), style="bold" if changed else "")]
        table.add_row(Text(_name(plain, at)), *beside, *cells, Text(text))
    out.print(table)


def _name(answers: Answers, at: int) -> str:
    """The label of text ``at`` as people read it."""
    return f"unsure ({answers.label(at)})" if answers.unsure[at] else answers.label(at)


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
