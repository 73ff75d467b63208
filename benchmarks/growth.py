"""How whinchat's time and memory grow with batch size, text length, model size and number of texts.

Every point is a process of its own, since the peak memory of a process never goes down.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import measure as driver
from benchmarks.measure import Contest
from benchmarks.plan import ALL, BF16, KV, ONE_EPOCH, TINYLLAMA, TRAIN, contest, evenly
from whinchat.data.dataset import Split

AXES = {"batch": "batch size", "length": "tokens of a text", "parameters": "parameters", "texts": "number of texts"}
JOBS = {"train": "training", "score": "scoring"}
MANY = {10_000_000: "ten million texts", 1_000_000_000: "one billion"}
LONG = "backbone.max_prompt_tokens=1024"


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
    """The result of a point: time of a text in the fastest round, time of its process until the end of one round."""

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

    def add(axis: str, job: str, x: int, rows: Split, *overrides: str, **options: Any) -> None:
        name, title = f"growth-{axis}-{job}-{len(points) + 1}", f"{JOBS[job]} by {AXES[axis]}{f', {x}' if x else ''}"
        chosen = contest(name, f"whinchat-{job}", title, rows, overrides=[*BF16, *overrides], **options)
        points.append(Point(axis, job, x, chosen, rounds=2 if full and axis != "texts" else 1))

    def train(axis: str, x: int, texts: int, batch: int, **options: Any) -> None:
        size = f"train.per_device_train_batch_size={batch}"
        add(axis, "train", x, evenly(split, texts), *TRAIN, *KV, LONG, size, **options)

    def score(axis: str, x: int, texts: int, batch: int, *more: str, **options: Any) -> None:
        size = f"evaluate.per_device_eval_batch_size={batch}"
        add(axis, "score", x, evenly(split, texts), *ALL, LONG, size, *more, **options)

    for batch in (1, 2, 4, 8, 16, 32, 64) if full else (4, 16, 64):
        train("batch", batch, 64 if batch < 64 else 128, batch)
        score("batch", batch, 64 if batch < 64 else 128, batch)
    for length in (16, 32, 64, 128, 256, 512) if full else (32, 128, 512):
        # About as many tokens at every length, and at least a batch of 16.
        texts = min(64, max(16, 4096 // length))
        train("length", length, texts, 16, text_tokens=length)
        score("length", length, texts, 16, text_tokens=length)
    for name, folder in {"smollm2": "package:smollm2-135m-instruct", **shapes}.items():
        model = f"backbone.model={folder}"
        score("parameters", 0, 32, 32, model)
        if not (name == "tinyllama-shape" and measured_1b):
            settings = [model, *ONE_EPOCH]
            add("parameters", "train", 0, split.head(32), *settings, recipe=TINYLLAMA, warm_up=8)
    for texts in (100, 300, 1000, 3000, 10000) if full else (100, 300, 1000):
        score("texts", texts, texts, 64, warm_up=1, tokenize=True)
    return points


def measure(points: Sequence[Point], logs: Path, say: driver.Say) -> dict[str, dict[str, list[Reading]]]:
    """Return the reading of each point, by axis and job.

    Two processes start at the same time, except where their start is measured, too.
    """
    readings: dict[str, dict[str, list[Reading]]] = {axis: {} for axis in AXES}
    paired = [point for point in points if point.axis != "texts"]
    alone = [[point] for point in points if point.axis == "texts"]
    for group in [*(paired[start : start + 2] for start in range(0, len(paired), 2)), *alone]:
        rounds = max(point.rounds for point in group)
        entries = driver.measure("growth", [point.contest for point in group], rounds, logs, say)
        for point in group:
            entry = entries[point.contest.name]
            if entry.alive:
                x = None if point.axis == "parameters" else point.x
                result = reading(entry.to_dict(), x, entry.total_seconds)
            else:
                result = Reading(point.x, error=entry.error or entry.unavailable)
            readings[point.axis].setdefault(point.job, []).append(result)
    return readings


def reading(entry: Mapping[str, Any], x: float | None = None, total_seconds: float | None = None) -> Reading:
    """Return a contestant's result as a point of a curve; without ``x``, of the curve over model sizes."""
    seconds = min(one_round["seconds"] / one_round["examples"] for one_round in entry["rounds"])
    size = float(entry["facts"]["parameters"] if x is None else x)
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
            memory = power_law(sizes, [float(point.peak_bytes or 1) for point in good])
            curve = [asdict(point) for point in sorted(points, key=lambda point: point.x)]
            entry: dict[str, Any] = {"points": curve, "time": power_law(sizes, costs), "memory": memory}
            if axis == "texts":
                entry["line"] = fit = line(sizes, [point.total_seconds or 0.0 for point in good])
                hours = ((fit["start_up"] + fit["seconds_a_text"] * texts) / 3600 if fit else None for texts in MANY)
                entry["hours"] = dict(zip(map(str, MANY), hours, strict=True))
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
