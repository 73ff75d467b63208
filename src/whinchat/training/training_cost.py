"""Measure what training will cost on this machine, by the forward and backward pass of a few real micro-batches."""

import time
from dataclasses import dataclass, replace
from functools import partial

import psutil
import torch
from accelerate.utils import send_to_device
from torch import Tensor

from whinchat.data.dataset import Split
from whinchat.models.adapters import attach_adapter, count_parameters
from whinchat.models.batch_limit import BatchLimit
from whinchat.models.forward import Engine
from whinchat.models.memory import peak_memory_bytes
from whinchat.recipe.schema import Recipe
from whinchat.training.memory_budget import rows_within_budget
from whinchat.training.micro_batch import take_rows
from whinchat.training.question_objective import make_objective

# Bytes of optimizer state for each trainable parameter: the two float32 moments of Adam.
_OPTIMIZER_BYTES = 8
# What the code of oneDNN's products takes on a CPU once many shapes of batches have been met (docs/decisions.md).
_COMPILED_BYTES = 250_000_000
# On a CPU, what gaps between the blocks of unlike batches take, as a share of what a batch takes (docs/decisions.md).
_GAPS = 0.5


@dataclass(frozen=True)
class TrainingCost:
    """What training costs.

    Attributes:
        batches: micro-batches that were measured.
        seconds_per_batch: mean time of a micro-batch.
        memory_bytes: peak memory, of the accelerator where there is one and of the process otherwise.
    """

    batches: int
    seconds_per_batch: float
    memory_bytes: int


def measure_training_cost(engine: Engine, recipe: Recipe, train: Split) -> TrainingCost:
    """Time micro-batches of the longest and of the median training texts.

    The model, torch's random numbers and therefore every result of the run stay as they were.

    Args:
        engine: the untrained model with its prompts. A fresh adapter is attached for the time of the measurement.
        recipe: the settings.
        train: the training rows.
    """
    plan, settings = engine.plan, recipe.adapter
    if settings.init == "pissa":
        # The same shapes, without the singular vectors, which take minutes to find.
        settings = settings.model_copy(update={"init": "default", "r": 2 * settings.r})
    size = min(recipe.train.per_device_train_batch_size, len(train))
    order = sorted(range(len(train)), key=lambda row: len(train.texts[row]))
    middle = (len(order) - size) // 2
    longest, median = train.take(order[len(order) - size :]), train.take(order[middle : middle + size])
    training = engine.model.training
    loaded = psutil.Process().memory_info().rss
    with torch.random.fork_rng():
        tuned = attach_adapter(engine.model, settings, recipe.train.seed).train()
        try:
            _, trainable = count_parameters(tuned)
            timed = replace(engine, model=tuned)
            objective = make_objective(timed, recipe, longest)
            limit = BatchLimit("training", rows_within_budget(tuned, plan, recipe, objective))
            # The first pass pays for everything that is loaded or compiled once.
            seconds = [_seconds(timed, recipe, rows, limit) for rows in (median, longest, median)]
            peak = _peak_bytes(plan.device)
            memory = peak + _OPTIMIZER_BYTES * trainable
            if plan.device == "cpu":
                memory += int(_GAPS * max(0, peak - loaded))
                memory += 0 if plan.compute_dtype == "float32" else _COMPILED_BYTES
        finally:
            tuned.unload().train(training)
    return TrainingCost(len(seconds), _mean_seconds(train, (median, seconds[2]), (longest, seconds[1])), memory)


def _seconds(engine: Engine, recipe: Recipe, rows: Split, limit: BatchLimit) -> float:
    """Return the seconds of the forward and backward pass of ``rows``, as one micro-batch or as its parts."""
    device = torch.device(engine.plan.device)
    objective = make_objective(engine, recipe, rows)
    inputs = send_to_device(objective.collate(objective.examples), device)

    def add_gradients(part: dict[str, Tensor], some: slice) -> None:
        objective.losses(take_rows(part, some)).mean().backward()

    started = time.perf_counter()
    for part in objective.parts(inputs):
        limit.compute(len(part["rest"]), partial(add_gradients, part))
    if device.type != "cpu":
        torch.accelerator.synchronize()
    return time.perf_counter() - started


def _mean_seconds(train: Split, median: tuple[Split, float], longest: tuple[Split, float]) -> float:
    """Return the seconds of a micro-batch of mean length, on the line through the two measured micro-batches."""
    (median_rows, median_seconds), (longest_rows, longest_seconds) = median, longest
    middle, end = _mean_characters(median_rows), _mean_characters(longest_rows)
    slope = max(0.0, longest_seconds - median_seconds) / (end - middle) if end > middle else 0.0
    return max(0.0, median_seconds + slope * (_mean_characters(train) - middle))


def _mean_characters(rows: Split) -> float:
    return sum(map(len, rows.texts)) / len(rows)


def _peak_bytes(device: str) -> int:
    """Return the peak memory so far: what torch allocated on CUDA, and elsewhere the resident size of the process."""
    return torch.cuda.max_memory_allocated() if device == "cuda" else peak_memory_bytes()
