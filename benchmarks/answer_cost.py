"""What answers cost: texts a second and hours for ten million texts, of several classifiers in one run.

    python -m benchmarks.answer_cost runs/full runs/tweets-16 --texts tweets.csv
    python -m benchmarks.answer_cost --table

The first run is the one that the others are compared with. A run with a student is measured without and with it. All
answer the same texts, as ``whinchat predict`` does with a table, in rounds that alternate between them; a ratio is the
median of the ratios of the same round. Rounds take different texts, so that no text is answered twice.
``benchmarks/results/answer_cost.json`` gets the results.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.cost import ANSWERS, TEN_MILLION, answers_table
from benchmarks.machine import machine
from whinchat.data.formats.table_registry import open_table
from whinchat.data.text_columns import TextColumns
from whinchat.inference.prediction_columns import readable_texts
from whinchat.inference.predictor import Predictor
from whinchat.progress import Progress

RESULTS = ANSWERS


@dataclass(frozen=True)
class Way:
    """A way of answering.

    Attributes:
        title: the run, and whether its student answers.
        predictor: the classifier in memory.
    """

    title: str
    predictor: Predictor

    def answer(self, texts: Sequence[str]) -> tuple[float, int]:
        """Return texts a second, with the checks that a table gets, and how many texts the student answered."""
        started = time.perf_counter()
        asked = [text for text in texts if not self.predictor.fault(text)]
        answers = self.predictor.predict(asked, deterministic=True, bar=Progress())
        seconds = time.perf_counter() - started
        return len(asked) / seconds, 0 if answers.by_student is None else int(answers.by_student.sum())


def measure(ways: Sequence[Way], texts: Sequence[str], rounds: int, size: int) -> list[dict[str, Any]]:
    """Measure each way in each round, after one small round that is not counted."""
    for way in ways:
        way.answer(texts[:64])
    found: list[list[tuple[float, int]]] = []
    for number in range(rounds):
        part = texts[64 + number * size : 64 + (number + 1) * size]
        found.append([way.answer(part) for way in ways])
        print(f"round {number + 1} of {rounds}: " + ", ".join(f"{speed:.1f}" for speed, _ in found[-1]), flush=True)
    rows = []
    for index, way in enumerate(ways):
        speeds = [one[index][0] for one in found]
        ratios = [one[index][0] / one[0][0] for one in found]
        speed = statistics.median(speeds)
        rows.append(
            {
                "way": way.title,
                "layers": way.predictor.recipe.backbone.layers,
                "texts_per_second": speed,
                "range": [min(speeds), max(speeds)],
                "ratio": statistics.median(ratios),
                "ratio_range": [min(ratios), max(ratios)],
                "by_student": sum(one[index][1] for one in found) / (rounds * size),
                "hours_for_ten_million": TEN_MILLION / speed / 3600,
            }
        )
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the runs, or print the table of the last results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", help="run folders of tasks with labels")
    parser.add_argument("--texts", type=Path, help="a table with texts")
    parser.add_argument("--text-column", default="text")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--size", type=int, default=1000, help="texts of a round")
    parser.add_argument("--table", action="store_true", help="print the last results as Markdown")
    options = parser.parse_args(arguments)
    if options.table:
        print(answers_table(json.loads(RESULTS.read_text(encoding="utf-8"))), end="")
        return
    if not options.runs or options.texts is None:
        parser.error("name at least one run, and a table of texts with --texts")
    source = open_table(options.texts, TextColumns((options.text_column,)))
    needed, texts = 64 + options.rounds * options.size, list[str]()
    for place in source.locate_blocks(1000, lambda _: None):
        texts += readable_texts(source.read_block(place))
        if len(texts) >= needed:
            break
    if len(texts) < needed:
        parser.error(f"{options.texts}: has {len(texts):,} texts, {needed:,} are needed; lower --rounds or --size")
    ways = []
    for run in options.runs:
        predictor = Predictor.load(run)
        ways.append(Way(str(run), replace(predictor, cascade=None)))
        if predictor.cascade is not None:
            ways.append(Way(f"{run} with its student", predictor))
    results = {"machine": machine(), "size": options.size, "rounds": options.rounds}
    results["ways"] = measure(ways, texts, options.rounds, options.size)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(answers_table(results), end="")


if __name__ == "__main__":
    main()
