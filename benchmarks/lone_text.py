"""Time one text at a time: ``whinchat serve`` beside transformers' ``pipeline`` with the same classifier.

    python -m benchmarks.lone_text runs/demo --texts 40

whinchat and the pipeline answer the same texts in one process, in turns, without the web servers around them. The
pipeline has merged weights (``whinchat export --to classifier``) in the data type in which the classifier computes. For
each text, the pipeline's time is divided by whinchat's; the table has the median of these ratios, so above 1 whinchat
is faster. ``benchmarks/results/lone_text.json`` keeps it. ``python -m benchmarks.serving`` measures the servers under
load.
"""

import argparse
import csv
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from transformers import pipeline

from benchmarks.machine import machine
from benchmarks.markdown import markdown_table
from whinchat.export.export_run import export_run
from whinchat.inference.predictor import Predictor
from whinchat.server.served_models import ModelHost, ModelKey

RESULTS = Path(__file__).parent / "results" / "lone_text.json"
# Number of texts that prove the export; the measured speed does not depend on it.
_PROOF_TEXTS = 24
# Number of first texts that are answered but not measured.
_WARM_UP = 3


@dataclass(frozen=True)
class Duration:
    """How long a text took, in seconds on the clock and on the cores of this process."""

    wall_seconds: float
    cpu_seconds: float


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a finished run whose labels are one token each")
    parser.add_argument("--texts", type=int, default=40)
    options = parser.parse_args(arguments)
    rows = pq.read_table(options.run / "predictions.parquet", columns=["text"])["text"].to_pylist()
    texts = rows[: options.texts + _WARM_UP]
    host = ModelHost.load({"run": options.run})
    predictor = host.models["run"].predictor
    assert isinstance(predictor, Predictor), "a run with labels"
    plan = predictor.engine.plan
    with tempfile.TemporaryDirectory() as scratch:
        table = Path(scratch) / "texts.csv"
        with table.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([["text"], *([text] for text in rows[:_PROOF_TEXTS])])
        # Labels may differ from the classifier's, as some do in bfloat16: only the speed of the export is measured.
        export_run(options.run, "classifier", Path(scratch) / "classifier", data=table, tolerance=1.0)
        peer: Any = pipeline(
            "text-classification",
            str(Path(scratch) / "classifier"),
            dtype=plan.torch_dtype,
            top_k=None,
            trust_remote_code=False,
        )
        found = measure(
            lambda text: host.predict(ModelKey("run"), [text]), lambda text: peer(text, truncation=True), texts
        )
    ratio = statistics.median(theirs.wall_seconds / ours.wall_seconds for ours, theirs in found)
    result = {"machine": machine(), "compute_dtype": plan.compute_dtype, "texts": len(found), "ratio": ratio}
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"{machine()}; products in {plan.compute_dtype}")
    print(summarize(found), end="")


def measure(
    ours: Callable[[str], object], theirs: Callable[[str], object], texts: Sequence[str]
) -> list[tuple[Duration, Duration]]:
    """Return how long ``ours`` and ``theirs`` took for each text after the first ``_WARM_UP`` texts."""
    return [(_timed(ours, text), _timed(theirs, text)) for text in texts][_WARM_UP:]


def summarize(found: Sequence[tuple[Duration, Duration]]) -> str:
    """Return the medians as Markdown."""

    def row(name: str, of: Callable[[Duration], float]) -> tuple[str, ...]:
        ours, theirs = ([of(pair[index]) for pair in found] for index in (0, 1))
        ratio = statistics.median(there / here for here, there in zip(ours, theirs, strict=True))
        return name, f"{1000 * statistics.median(ours):.1f}", f"{1000 * statistics.median(theirs):.1f}", f"{ratio:.2f}"

    return markdown_table(
        ("one text", "whinchat, ms", "pipeline, ms", "ratio"),
        [row("time", lambda one: one.wall_seconds), row("CPU time", lambda one: one.cpu_seconds)],
    )


def _timed(answer: Callable[[str], object], text: str) -> Duration:
    started, cpu_started = time.perf_counter(), time.process_time()
    answer(text)
    return Duration(time.perf_counter() - started, time.process_time() - cpu_started)


if __name__ == "__main__":
    main()
