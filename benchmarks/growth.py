"""How whinchat's time and memory grow: with batch size, text length, model size and number of texts.

Every point is a process of its own, since a process's peak memory never goes down.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.entries import Contest
from benchmarks.fits import MANY, line, power_law
from benchmarks.interleave import TIMEOUT_SECONDS, Say
from benchmarks.plan import ALL, BF16, KV, TINYLLAMA, TRAIN
from benchmarks.process import WorkerFailedError, WorkerProcess, WorkerUnavailableError
from benchmarks.workload import RECIPE

AXES = ("batch", "length", "parameters", "texts")
JOBS = ("train", "score")


@dataclass(frozen=True)
class Point:
    """One process: ``job`` at ``x`` of ``axis``; for ``parameters`` the worker says what x is."""

    axis: str
    job: str
    x: int
    contest: Contest
    rounds: int = 1


@dataclass(frozen=True)
class Reading:
    """What a point came to.

    ``seconds_a_text``: the fastest round's, without start-up. ``total_seconds``: from the start of the process to the
    last answer of one round, loading included.
    """

    x: float
    seconds_a_text: float | None = None
    total_seconds: float | None = None
    peak_bytes: int | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    error: str | None = None


def plan(workload: Path, shapes: Mapping[str, Path], *, full: bool, measured_1b: bool) -> list[Point]:
    """The points of the short version, or of the full one.

    Args:
        workload: the texts.
        shapes: model folders of random weights, by name.
        full: all points.
        measured_1b: the TinyLlama group has already trained the 1.1 B shape, with the same settings.
    """
    make = _Maker(workload, rounds=2 if full else 1)
    points: list[Point] = []
    for batch in (1, 2, 4, 8, 16, 32, 64) if full else (4, 16, 64):
        points += make.both("batch", batch, texts=64 if batch < 64 else 128, batch=batch)
    for length in (16, 32, 64, 128, 256, 512) if full else (32, 128, 512):
        # About as many tokens at every length; at least a batch of 16.
        texts = min(64, max(16, 4096 // length))
        points += make.both("length", length, texts=texts, batch=16, text_tokens=length)
    for name, folder in {"smollm2": None, **shapes}.items():
        points.append(make.score("parameters", 0, texts=32, batch=32, model=folder))
        if not (name == "tinyllama-shape" and measured_1b):
            points.append(make.like_tinyllama(folder))
    for texts in (100, 300, 1000, 3000, 10000) if full else (100, 300, 1000):
        points.append(make.score("texts", texts, texts=texts, batch=64, warm_up=1, tokenize=True))
    return points


def estimate_seconds(points: Sequence[Point]) -> float:
    """How long the points are expected to take."""
    return sum(point.contest.preparing + point.rounds * point.contest.seconds for point in points)


def measure(
    points: Sequence[Point], logs: Path, say: Say, threads: int | None = None
) -> dict[str, dict[str, list[Reading]]]:
    """Readings by axis and job, one for each point, with its error where it failed."""
    found: dict[str, dict[str, list[Reading]]] = {axis: {} for axis in AXES}
    read = 0
    for few in _together(points):
        with ExitStack() as stack:
            workers = [
                stack.enter_context(
                    WorkerProcess(point.contest.kind, point.contest.options, logs / _log(point, number), threads)
                )
                for number, point in enumerate(few, read + 1)
            ]
            faults = [_fault_at_start(worker) for worker in workers]
            for point, worker, fault in zip(few, workers, faults, strict=True):
                reading = Reading(point.x, error=fault) if fault else _read(point, worker)
                found[point.axis].setdefault(point.job, []).append(reading)
                read += 1
                cost = f"FAILED: {reading.error}" if reading.error else f"{reading.seconds_a_text:.4f} s a text"
                say(f"[growth {read}/{len(points)}] {point.job} by {point.axis} at {reading.x:g}: {cost}")
    return found


def summary(found: Mapping[str, Mapping[str, Sequence[Reading]]]) -> dict[str, Any]:
    """Readings with their fits, as they stand in the JSON."""
    result: dict[str, Any] = {}
    for axis, jobs in found.items():
        for job, readings in jobs.items():
            good = [one for one in readings if one.error is None]
            entry: dict[str, Any] = {"points": [asdict(one) for one in sorted(readings, key=lambda one: one.x)]}
            xs = [one.x for one in good]
            # By number of texts the question is what all of them cost, at the other axes what one costs.
            costs = [(one.seconds_a_text or 0.0) * (one.x if axis == "texts" else 1) for one in good]
            entry["time"] = _as_dict(power_law(xs, costs))
            entry["memory"] = _as_dict(power_law(xs, [float(one.peak_bytes or 1) for one in good]))
            if axis == "texts":
                fitted = line(xs, [one.total_seconds or 0.0 for one in good])
                entry["line"] = _as_dict(fitted)
                entry["hours"] = {str(many): fitted.hours(many) if fitted else None for many in MANY}
            result.setdefault(axis, {})[job] = entry
    return result


def reading_of(entry: Mapping[str, Any]) -> Reading | None:
    """A contestant's result as a point of the curve over model sizes; None where it has none."""
    rounds = entry.get("rounds")
    if not rounds:
        return None
    seconds = min(one["seconds"] / one["examples"] for one in rounds)
    return Reading(float(entry["facts"]["parameters"]), seconds, None, entry["peak_bytes"], dict(entry["facts"]))


def _together(points: Sequence[Point]) -> list[Sequence[Point]]:
    """Points whose processes start at the same time: two, or one where its start counts, too."""
    counted = [[point] for point in points if point.axis == "texts"]
    others = [point for point in points if point.axis != "texts"]
    return [*(others[at : at + 2] for at in range(0, len(others), 2)), *counted]


def _log(point: Point, number: int) -> str:
    return f"growth-{point.axis}-{point.job}-{number}.log"


def _fault_at_start(worker: WorkerProcess) -> str | None:
    try:
        worker.wait_until_started(TIMEOUT_SECONDS)
    except (WorkerFailedError, WorkerUnavailableError) as fault:
        return str(fault)
    return None


def _read(point: Point, worker: WorkerProcess) -> Reading:
    try:
        prepared = worker.ask("prepare", TIMEOUT_SECONDS)
        rounds = [worker.ask("round", TIMEOUT_SECONDS) for _ in range(point.rounds)]
        total = worker.age() - sum(one["seconds"] for one in rounds[1:])
    except (WorkerFailedError, WorkerUnavailableError) as fault:
        return Reading(point.x, error=str(fault))
    worker.end()
    x = prepared["facts"]["parameters"] if point.axis == "parameters" else point.x
    seconds = min(one["seconds"] / one["examples"] for one in rounds)
    return Reading(float(x), seconds, total, rounds[-1]["peak_bytes"], prepared["facts"])


def _as_dict(fit: Any) -> dict[str, float] | None:
    return None if fit is None else asdict(fit)


class _Maker:
    """Points that share a workload."""

    def __init__(self, workload: Path, rounds: int) -> None:
        self.workload = str(workload)
        self.rounds = rounds

    def both(self, axis: str, x: int, **settings: Any) -> list[Point]:
        """Training and scoring at the same place."""
        return [self.train(axis, x, **settings), self.score(axis, x, **settings)]

    def train(self, axis: str, x: int, *, texts: int, batch: int, **options: Any) -> Point:
        """LoRA on k/v, bf16."""
        overrides = [*TRAIN, *KV, *BF16, "backbone.max_prompt_tokens=1024"]
        overrides.append(f"train.per_device_train_batch_size={batch}")
        return self._point(axis, "train", x, RECIPE, overrides, {"texts": texts, **options})

    def score(self, axis: str, x: int, *, texts: int, batch: int, model: Path | None = None, **options: Any) -> Point:
        """Adapter on all linear layers, bf16."""
        overrides = [*ALL, *BF16, "backbone.max_prompt_tokens=1024", f"evaluate.per_device_eval_batch_size={batch}"]
        if model is not None:
            overrides.append(f"backbone.model={model}")
        return self._point(axis, "score", x, RECIPE, overrides, {"texts": texts, **options})

    def like_tinyllama(self, model: Path | None) -> Point:
        """One optimizer step with the settings of ``tinyllama-qlora``, weights in bf16."""
        overrides = [*BF16, "backbone.compute_dtype=auto", "train.num_train_epochs=1"]
        overrides.append(f"backbone.model={model or 'package:smollm2-135m-instruct'}")
        return self._point("parameters", "train", 0, TINYLLAMA, overrides, {"texts": 32, "pool": 32, "warm_up": 8})

    def _point(self, axis: str, job: str, x: int, recipe: str, overrides: list[str], options: dict[str, Any]) -> Point:
        chosen = {"recipe": recipe, "overrides": overrides, "workload": self.workload, **options}
        longer = max(1.0, options.get("text_tokens", 30) / 30)
        seconds = options["texts"] * longer * {"train": 0.05, "score": 0.02}[job]
        contest = Contest(f"{axis}-{job}-{x}", f"whinchat-{job}", f"{job} by {axis}", chosen, seconds, 10.0, ours=True)
        return Point(axis, job, x, contest, rounds=1 if axis == "texts" else self.rounds)
