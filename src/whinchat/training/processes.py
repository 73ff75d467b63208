"""Training on several processes, as ``accelerate launch`` starts them: each takes its share of every batch.

The rest of whinchat runs in one process. torchrun's names, which accelerate uses, say which of them this one is.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from torch import nn

Answer = TypeVar("Answer")


def count() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def index() -> int:
    """Which of them this one is; 0 is the one that writes."""
    return int(os.environ.get("RANK", "0"))


def join(device: str) -> None:
    """Find the others, and take the accelerator that is this process's own; nothing where it is alone.

    Args:
        device: ``backbone.device`` of the recipe.
    """
    if count() == 1:
        return
    import torch
    from accelerate import PartialState

    PartialState(cpu=device == "cpu" or not torch.cuda.is_available())


def wait() -> None:
    """Until all processes have come here."""
    if count() == 1:
        return
    from accelerate import PartialState

    PartialState().wait_for_everyone()


def through(model: nn.Module, call: Callable[[], Answer]) -> Answer:
    """``call()`` as the forward pass of ``model``, where torch's ``DistributedDataParallel`` is wrapped around it.

    That adds up gradients over the processes, and looks for what to add up in the forward pass alone; ours goes past
    the model's own.
    """
    from torch.nn.parallel import DistributedDataParallel

    if not isinstance(model, DistributedDataParallel):
        return call()
    own = model.module.forward
    model.module.forward = call
    try:
        answer: Answer = model()
    finally:
        model.module.forward = own
    return answer
