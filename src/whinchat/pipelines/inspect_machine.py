"""Examine this machine, and estimate which shipped recipes fit into its memory."""

import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

from whinchat.errors import ModelError
from whinchat.models.device import DevicePlan, detect_machine, installed_versions, plan_device, processor_name
from whinchat.models.nf4 import require_bitsandbytes
from whinchat.models.training_memory import BatchShape, estimate_for
from whinchat.recipe.loader import RECIPES, load_recipe
from whinchat.recipe.schema import Recipe

# Tokens of the longest tweets, on which all shipped recipes train: 58 to 69, and 82 to 90 in TweetEval where escapes
# such as \u2019 are kept, by task and batch size.
_CLEANED, _WITH_ESCAPES = 64, 90


@dataclass(frozen=True)
class RecipeFit:
    """An estimate of whether the training of a recipe fits into memory.

    Attributes:
        recipe: name of the recipe.
        held_as: data type of the weights on this machine.
        parameters: size of the model by its configuration; None if the configuration cannot be read without network.
        text_tokens: length of the longest texts that are expected, in tokens.
        needed_bytes: estimated memory for training on such texts; None if ``parameters`` is unknown.
        fits: whether that much memory is free; None if ``parameters`` is unknown.
        needs_hub: whether model or data come from the Hugging Face hub.
        note: where this machine makes the run differ from the recipe; empty if it does not.
    """

    recipe: str
    held_as: str
    parameters: float | None
    text_tokens: int
    needed_bytes: float | None
    fits: bool | None
    needs_hub: bool
    note: str


@dataclass(frozen=True)
class MachineReport:
    """What this machine has, what its data types do, and which recipes fit into its memory.

    Attributes:
        processor: name of the processor.
        cores: number of its cores.
        memory_bytes, memory_free_bytes: main memory, and how much of it is free.
        disk_free_bytes: free space of the disk that holds the working directory.
        accelerator: name of the GPU or other accelerator that training would use; None if there is none.
        accelerator_memory_bytes: memory of the GPU; None if there is none.
        fast_bfloat16, fast_float16: whether the hardware multiplies in this data type.
        four_bit: whether bitsandbytes is installed and can quantize to NF4 here.
        versions: versions of the main libraries.
        recipes: an estimate for each shipped recipe.
    """

    processor: str
    cores: int
    memory_bytes: int
    memory_free_bytes: int
    disk_free_bytes: int
    accelerator: str | None
    accelerator_memory_bytes: int | None
    fast_bfloat16: bool
    fast_float16: bool
    four_bit: bool
    versions: dict[str, str]
    recipes: tuple[RecipeFit, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)


def inspect_machine() -> MachineReport:
    """Examine this machine: processor, memory, accelerator, data types, and which shipped recipes fit."""
    machine = detect_machine()
    gpu = torch.cuda.get_device_properties(0) if "cuda" in machine.accelerators else None
    memory = psutil.virtual_memory()
    free_bytes = gpu.total_memory if gpu else memory.available
    recipes = {name: load_recipe(name) for name in RECIPES.names()}
    return MachineReport(
        processor=processor_name(),
        cores=os.cpu_count() or 1,
        memory_bytes=memory.total,
        memory_free_bytes=memory.available,
        disk_free_bytes=shutil.disk_usage(Path.cwd()).free,
        accelerator=gpu.name if gpu else next(iter(machine.accelerators), None),
        accelerator_memory_bytes=gpu.total_memory if gpu else None,
        fast_bfloat16=machine.fast_bfloat16,
        fast_float16=machine.fast_float16,
        four_bit=_nf4_works(machine.best_device),
        versions=installed_versions(("torch", "transformers", "peft", "bitsandbytes")),
        recipes=tuple(_fit(name, recipe, plan_device(recipe.backbone), free_bytes) for name, recipe in recipes.items()),
    )


def _fit(name: str, recipe: Recipe, plan: DevicePlan, free_bytes: float) -> RecipeFit:
    backbone, has_escapes = recipe.backbone, recipe.data.source.endswith("tweet_eval")
    tokens = _WITH_ESCAPES if has_escapes and "json_escapes" not in recipe.task.clean else _CLEANED
    batch = BatchShape(recipe.train.per_device_train_batch_size, text=tokens)
    estimate = estimate_for(backbone, plan, recipe.adapter, batch)
    parameters, needed_bytes = estimate or (None, None)
    return RecipeFit(
        recipe=name,
        held_as=plan.load_in,
        parameters=parameters,
        text_tokens=tokens,
        needed_bytes=needed_bytes,
        fits=None if needed_bytes is None else needed_bytes < free_bytes,
        needs_hub=not recipe.backbone.model.startswith("package:") or recipe.data.source.startswith("hub:"),
        note="; ".join(plan.notes),
    )


def _nf4_works(device: str) -> bool:
    """Return whether a block of weights survives a round trip through NF4 on ``device``."""
    if device == "mps":
        return False
    try:
        functional = require_bitsandbytes()
    except ModelError:
        return False
    weight = torch.linspace(-1, 1, 64, device=device)[None]
    packed, state = functional.quantize_4bit(weight, quant_type="nf4")
    return bool((functional.dequantize_4bit(packed, state) - weight).abs().max() < 0.2)
