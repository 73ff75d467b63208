"""``whinchat predict``: texts in, labels and probabilities out, in the same order."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from whinchat.cli.output import err, out
from whinchat.errors import DataError

_BATCH = 64


@dataclass(frozen=True)
class Answers:
    """One answer for each text: probabilities in the order of the labels, the label's index, whether to doubt it."""

    shares: Sequence[Sequence[float]]
    best: Sequence[int]
    unsure: Sequence[bool]

    @classmethod
    def of(cls, probabilities: Any, answers: Any, threshold: float | None) -> Answers:
        """From arrays (N, K) and (N,)."""
        shares, best = probabilities.tolist(), answers.tolist()
        doubt = [threshold is not None and row[at] < threshold for row, at in zip(shares, best, strict=True)]
        return cls(shares, best, doubt)

    def line(self, at: int, labels: Sequence[str]) -> dict[str, Any]:
        """That of text ``at`` as plain JSON types."""
        return {
            "label": labels[self.best[at]],
            "unsure": self.unsure[at],
            "probabilities": dict(zip(labels, self.shares[at], strict=True)),
        }

    def name(self, at: int, labels: Sequence[str]) -> str:
        """The label of text ``at`` as people read it."""
        label = labels[self.best[at]]
        return f"unsure ({label})" if self.unsure[at] else label


def print_predictions(path: Path, texts: list[str] | None, reestimate_priors: bool, as_json: bool) -> None:
    """Label ``texts``, or the lines of standard input; beside that, if asked, under re-estimated label shares."""
    given = texts or _lines()
    if not given:
        raise DataError("predict: no texts; give them as arguments, or one a line on standard input")
    from whinchat.evaluation.reestimation import reanswer, require
    from whinchat.evaluation.scoring import score
    from whinchat.run import load_calibrator, load_engine

    recipe, engine = load_engine(path)
    calibrator = load_calibrator(path, recipe)
    if reestimate_priors:
        require(calibrator, len(given), path)
    scores = score(engine, engine.template.encode(given), _BATCH)
    plain = Answers.of(calibrator.probabilities(scores), calibrator.decide(scores), calibrator.threshold)
    both = reanswer(calibrator, scores) if reestimate_priors else None
    again = Answers.of(both.probabilities, both.answers, calibrator.threshold) if both else None
    show = _print_lines if as_json else _print_table
    show(given, recipe.task.labels, plain, again, both.reestimation.trusted if both else False)
    if both:
        from whinchat.cli.summary import print_reestimation

        # With --json every line of standard output is a text's.
        print_reestimation(both.reestimation, err if as_json else out)


def _print_lines(
    texts: Sequence[str], labels: Sequence[str], plain: Answers, again: Answers | None, trusted: bool
) -> None:
    for at, text in enumerate(texts):
        line = {"text": text, **plain.line(at, labels)}
        if again is not None:
            line["reestimated"] = {**again.line(at, labels), "trusted": trusted}
        sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")


def _print_table(
    texts: Sequence[str], labels: Sequence[str], plain: Answers, again: Answers | None, trusted: bool
) -> None:
    # Brackets in a label or a text are no markup.
    extra = [] if again is None else ["re-estimated" if trusted else "re-estimated (not trusted)"]
    table = Table("label", *extra, *map(escape, labels), "text")
    for at, text in enumerate(texts):
        cells = [
            Text(f"{one:.3f}", style="bold" if label == plain.best[at] else "")
            for label, one in enumerate(plain.shares[at])
        ]
        beside = []
        if again is not None:
            changed = again.best[at] != plain.best[at]
            beside = [Text(again.name(at, labels), style="bold" if changed else "")]
        table.add_row(Text(plain.name(at, labels)), *beside, *cells, Text(text))
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
