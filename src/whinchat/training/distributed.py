"""Training on several processes, as ``accelerate launch`` starts them: each takes its share of every batch.

The rest of whinchat runs in one process. torchrun's names, which accelerate uses, say which of them this one is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from accelerate import PartialState
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from whinchat.training.launch import world_size

Answer = TypeVar("Answer")


def init_processes(device: str) -> None:
    """Find the others, and take the accelerator that is this process's own; nothing where it is alone.

    Args:
        device: ``backbone.device`` of the recipe.
    """
    if world_size() == 1:
        return

    PartialState(cpu=device == "cpu" or not torch.cuda.is_available())


def wait_for_everyone() -> None:
    """Until all processes have come here."""
    if world_size() == 1:
        return

    PartialState().wait_for_everyone()


def call_as_forward(model: nn.Module, call: Callable[[], Answer]) -> Answer:
    """``call()`` as the forward pass of ``model``, where torch's ``DistributedDataParallel`` is wrapped around it.

    That adds up gradients over the processes, and looks for what to add up in the forward pass alone; ours goes past
    the model's own.
    """
    if not isinstance(model, DistributedDataParallel):
        return call()
    own = model.module.forward
    model.module.forward = call
    try:
        answer: Answer = model()
    finally:
        model.module.forward = own
    return answer
