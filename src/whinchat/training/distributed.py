"""Training in several processes, which ``accelerate launch`` starts: each process takes its share of every batch.

Everything else in whinchat runs in one process. ``training.launch`` tells which process this is.
"""

from collections.abc import Callable
from typing import TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from whinchat.training.launch import world_size

T = TypeVar("T")


def init_processes(device: str) -> None:
    """Connect to the other processes and choose this process's accelerator; do nothing in a single process.

    Args:
        device: ``backbone.device`` of the recipe.
    """
    if world_size() > 1:
        PartialState(cpu=device == "cpu" or not torch.cuda.is_available())


def idle_gpus_note(device: str) -> str | None:
    """Return a sentence on the GPUs that a single process leaves idle; None where there is none.

    Args:
        device: the device of the plan.
    """
    if device != "cuda" or world_size() > 1 or (count := torch.cuda.device_count()) < 2:
        return None
    return (
        f"this machine has {count} GPUs, and one process trains on one of them; `accelerate launch --multi_gpu "
        f"--num_processes {count} -m whinchat train RECIPE --out RUN` trains on all"
    )


def first_process_value(value: T) -> T:
    """Return the ``value`` that process 0 passes. Every process must call this function."""
    if world_size() == 1:
        return value
    values = [value]
    broadcast_object_list(values)
    return values[0]


def largest_of_processes(value: int) -> int:
    """Return the largest ``value`` that a process passes. Every process must call this function."""
    return value if world_size() == 1 else max(gather_object([value]))


def wait_for_everyone() -> None:
    """Block until every process has reached this call."""
    if world_size() > 1:
        PartialState().wait_for_everyone()


def call_as_forward(model: nn.Module, compute: Callable[[], T]) -> T:
    """Return ``compute()``, run as the forward pass of ``model`` if that is a ``DistributedDataParallel``.

    DistributedDataParallel sums gradients over the processes only for what its own forward pass computes, and
    whinchat's loss does not go through the model's forward method.
    """
    if not isinstance(model, DistributedDataParallel):
        return compute()
    module = model.module
    forward = module.forward

    def compute_with_own_forward() -> T:
        # ``compute`` may call the model, which then needs its own forward method.
        module.forward = forward
        return compute()

    module.forward = compute_with_own_forward
    try:
        result: T = model()
    finally:
        module.forward = forward
    return result
