"""How whinchat's time and memory grow with batch size, text length, model size and number of texts.

Every point is a process of its own, since the peak memory of a process never goes down.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.entries import Contest, Entry
from benchmarks.measure import Say
from benchmarks.measure import measure as measure_group
from benchmarks.plan import ALL, BF16, KV, TINYLLAMA, TRAIN
from benchmarks.workload import RECIPE, evenly
from whinchat.data.dataset import Split

AXES = {"batch": "batch size", "length": "tokens of a text", "parameters": "parameters", "texts": "number of texts"}
JOBS = {"train": "training", "score": "scoring"}
MANY = {10_000_000: "ten million texts", 1_000_000_000: "one billion"}


@dataclass(frozen=True)
class Point:
    """One process: a job at size ``x`` of an axis; for ``parameters``, the process reports the size."""

    axis: str
    job: str
    x: int
    contest: Contest
    rounds: int = 1


@dataclass(frozen=True)
class Reading:
    """The result of a point.

    Attributes:
        x: the size.
        seconds_a_text: of the fastest round, without start-up.
        total_seconds: from the start of the process to the last answer of its first round, loading included.
        peak_bytes: peak memory of the process.
        facts: facts of the contestant.
        error: why the point has no result.
    """

    x: float
    seconds_a_text: float | None = None
    total_seconds: float | None = None
    peak_bytes: int | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    error: str | None = None


def plan(split: Split, shapes: Mapping[str, Path], *, full: bool, measured_1b: bool) -> list[Point]:
    """Return the points of the short version, or of the full one.

    Args:
        split: the texts.
        shapes: model folders with random weights, by name.
        full: whether all points are measured.
        measured_1b: whether the TinyLlama group trains the 1.1 B shape with the same settings.
    """
    points: list[Point] = []

    def add(
        axis: str, job: str, x: int, overrides: Sequence[str], texts: int, recipe: str = RECIPE, **options: Any
    ) -> None:
        chosen = {"recipe": recipe, "overrides": [*BF16, *overrides], **options}
        name = f"growth-{axis}-{job}-{len(points) + 1}"
        title = f"{JOBS[job]} by {AXES[axis]}{f', {x}' if x else ''}"
        rows = split.head(texts) if axis == "parameters" and job == "train" else evenly(split, texts)
        contest = Contest(name, f"whinchat-{job}", title, chosen, rows, ours=True)
        points.append(Point(axis, job, x, contest, rounds=2 if full and axis != "texts" else 1))

    def train(axis: str, x: int, *, batch: int, **options: Any) -> None:
        overrides = [*TRAIN, *KV, *LONG, f"train.per_device_train_batch_size={batch}"]
        add(axis, "train", x, overrides, **options)

    def score(axis: str, x: int, *, batch: int, model: Path | None = None, **options: Any) -> None:
        overrides = [*ALL, *LONG, f"evaluate.per_device_eval_batch_size={batch}"]
        add(axis, "score", x, [*overrides, *([f"backbone.model={model}"] if model else [])], **options)

    for batch in (1, 2, 4, 8, 16, 32, 64) if full else (4, 16, 64):
        for job in (train, score):
            job("batch", batch, batch=batch, texts=64 if batch < 64 else 128)
    for length in (16, 32, 64, 128, 256, 512) if full else (32, 128, 512):
        for job in (train, score):
            # About as many tokens at every length, and at least a batch of 16.
            job("length", length, batch=16, texts=min(64, max(16, 4096 // length)), text_tokens=length)
    for name, folder in {"smollm2": None, **shapes}.items():
        score("parameters", 0, batch=32, texts=32, model=folder)
        if not (name == "tinyllama-shape" and measured_1b):
            model = f"backbone.model={folder or 'package:smollm2-135m-instruct'}"
            settings = [model, "backbone.compute_dtype=auto", "train.num_train_epochs=1"]
            add("parameters", "train", 0, settings, recipe=TINYLLAMA, texts=32, warm_up=8)
    for texts in (100, 300, 1000, 3000, 10000) if full else (100, 300, 1000):
        score("texts", texts, batch=64, texts=texts, warm_up=1, tokenize=True)
    return points


LONG = ("backbone.max_prompt_tokens=1024",)


def measure(points: Sequence[Point], logs: Path, say: Say) -> dict[str, dict[str, list[Reading]]]:
    """Return the reading of each point, by axis and job.

    Two processes start at the same time, except where their start is measured, too.
    """
    readings: dict[str, dict[str, list[Reading]]] = {axis: {} for axis in AXES}
    pairs = [point for point in points if point.axis != "texts"]
    alone = [[point] for point in points if point.axis == "texts"]
    for group in [*(pairs[start : start + 2] for start in range(0, len(pairs), 2)), *alone]:
        rounds = max(point.rounds for point in group)
        entries = measure_group("growth", [point.contest for point in group], rounds, logs, say)
        for point in group:
            reading = _reading(point, entries[point.contest.name])
            readings[point.axis].setdefault(point.job, []).append(reading)
    return readings


def _reading(point: Point, entry: Entry) -> Reading:
    if not entry.alive:
        return Reading(point.x, error=entry.error or entry.unavailable)
    reading = reading_of(entry.to_dict(), "parameters" if point.axis == "parameters" else point.x, entry.total_seconds)
    assert reading is not None
    return reading


def reading_of(
    entry: Mapping[str, Any], x: float | str = "parameters", total_seconds: float | None = None
) -> Reading | None:
    """Return a contestant's result as a point of a curve; None where it has none. ``x`` may name one of its facts."""
    if not entry.get("rounds"):
        return None
    size = float(entry["facts"][x] if isinstance(x, str) else x)
    seconds = min(one_round["seconds"] / one_round["examples"] for one_round in entry["rounds"])
    return Reading(size, seconds, total_seconds, entry["peak_bytes"], dict(entry["facts"]))


def summary(readings: Mapping[str, Mapping[str, Sequence[Reading]]]) -> dict[str, Any]:
    """Return readings with fitted curves, as they stand in the JSON."""
    result: dict[str, Any] = {}
    for axis, jobs in readings.items():
        for job, points in jobs.items():
            good = [point for point in points if point.error is None]
            sizes = [point.x for point in good]
            # By number of texts, the cost of all texts counts; along the other axes, the cost of one.
            costs = [(point.seconds_a_text or 0.0) * (point.x if axis == "texts" else 1) for point in good]
            entry: dict[str, Any] = {
                "points": [asdict(point) for point in sorted(points, key=lambda point: point.x)],
                "time": power_law(sizes, costs),
                "memory": power_law(sizes, [float(point.peak_bytes or 1) for point in good]),
            }
            if axis == "texts":
                fit = line(sizes, [point.total_seconds or 0.0 for point in good])
                entry["line"] = fit
                entry["hours"] = {
                    str(texts): (fit["start_up"] + fit["seconds_a_text"] * texts) / 3600 if fit else None
                    for texts in MANY
                }
            result.setdefault(axis, {})[job] = entry
    return result


def power_law(sizes: Sequence[float], costs: Sequence[float]) -> dict[str, float] | None:
    """Fit cost = factor * size ** slope by least squares in the logarithms; None for fewer than two sizes."""
    if len(set(sizes)) < 2:
        return None
    slope, logarithm = np.polyfit(np.log(sizes), np.log(costs), 1)
    return {"slope": float(slope), "factor": float(np.exp(logarithm))}


def line(texts: Sequence[float], seconds: Sequence[float]) -> dict[str, float] | None:
    """Fit seconds = start_up + seconds_a_text * texts, by relative errors; None for fewer than two sizes."""
    if len(set(texts)) < 2:
        return None
    slope, start = np.polyfit(texts, seconds, 1, w=1 / np.asarray(seconds, dtype=float))
    return {"start_up": float(start), "seconds_a_text": float(slope)}
