"""``whinchat doctor``: what this machine can do, and which recipes fit it."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Column, Table

from whinchat.cli.output import out
from whinchat.recipe.loader import RECIPES, load_recipe
from whinchat.recipe.schema import Recipe

if TYPE_CHECKING:
    from whinchat.models.device import DevicePlan

# Bytes a frozen weight takes as it is held.
_HELD_BYTES = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0, "nf4": 0.56}
# What Python, torch and the libraries take before any weight is loaded, as `whinchat run` on a tiny model shows.
_RUNTIME_BYTES = 1.0e9
# Activations and their gradients grow with the layers' width and number, hence roughly with the root of the weights.
# Bytes per row and root, fitted to about 6.9 GB resident, seen while smollm2-lora-tweeteval trained: 135 M weights,
# batch 32, bfloat16.
_ACTIVATION_BYTES = 15_000.0


@dataclass(frozen=True)
class Fit:
    """Whether a recipe's training should fit into memory; an estimate from the model's size as its name gives it."""

    recipe: str
    held_as: str
    parameters: float | None
    needed_bytes: float | None
    fits: bool | None
    needs_hub: bool
    note: str


@dataclass(frozen=True)
class Findings:
    """What was found; bytes and counts are plain numbers."""

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
    recipes: tuple[Fit, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


def examine() -> Findings:
    """Look at this machine."""
    import psutil
    import torch

    from whinchat.models.device import detect_machine, plan_device, processor_name

    machine = detect_machine()
    cuda = torch.cuda.get_device_properties(0) if "cuda" in machine.accelerators else None
    memory = psutil.virtual_memory()
    room = cuda.total_memory if cuda else memory.available
    fits = []
    for name in RECIPES.names():
        recipe = load_recipe(name)
        fits.append(_fit(name, recipe, plan_device(recipe.backbone), room))
    return Findings(
        processor=processor_name(),
        cores=os.cpu_count() or 1,
        memory_bytes=memory.total,
        memory_free_bytes=memory.available,
        disk_free_bytes=shutil.disk_usage(Path.cwd()).free,
        accelerator=cuda.name if cuda else (machine.accelerators or (None,))[0],
        accelerator_memory_bytes=cuda.total_memory if cuda else None,
        fast_bfloat16=machine.fast_bfloat16,
        fast_float16=machine.fast_float16,
        four_bit=_four_bit(machine.best_device),
        versions={name: importlib.metadata.version(name) for name in ("torch", "transformers", "peft", "bitsandbytes")},
        recipes=tuple(fits),
    )


def print_findings(found: Findings) -> None:
    """The findings, for people."""
    table = Table(title="This machine", show_header=False)
    rows = (
        ("processor", f"{found.processor}, {found.cores} cores"),
        ("memory", f"{found.memory_bytes / 1e9:.1f} GB, {found.memory_free_bytes / 1e9:.1f} GB free"),
        ("disk free", f"{found.disk_free_bytes / 1e9:.0f} GB"),
        ("accelerator", found.accelerator or "none: training runs on the CPU"),
        ("bfloat16", "fast" if found.fast_bfloat16 else "emulated: float32 is used instead"),
        ("float16", "fast" if found.fast_float16 else "emulated: bfloat16 or float32 is used instead"),
        ("4-bit (NF4)", "works" if found.four_bit else "does not work: bitsandbytes has no kernels here"),
        ("versions", ", ".join(f"{name} {version}" for name, version in found.versions.items())),
    )
    for row in rows:
        table.add_row(*row)
    out.print(table)
    recipes = Table(
        Column("recipe", no_wrap=True), "weights as", "needs about", "fits", "hub", title="Recipes (estimates)"
    )
    for fit in found.recipes:
        needed = "unknown" if fit.needed_bytes is None else f"{fit.needed_bytes / 1e9:.1f} GB"
        verdict = "unknown" if fit.fits is None else "yes" if fit.fits else "no"
        recipes.add_row(fit.recipe, fit.held_as, needed, verdict, "yes" if fit.needs_hub else "no")
    out.print(recipes)
    for fit in found.recipes:
        if fit.note:
            out.print(f"{fit.recipe}: {fit.note}", soft_wrap=True)


def _fit(name: str, recipe: Recipe, plan: DevicePlan, room: float) -> Fit:
    parameters = _parameters(recipe.backbone.model)
    needed = None
    if parameters is not None:
        activations = _ACTIVATION_BYTES * parameters**0.5 * recipe.train.per_device_train_batch_size
        # Float32 activations take twice the room of the narrow ones the figure was fitted to.
        activations *= 2 if plan.compute_dtype == "float32" else 1
        needed = _RUNTIME_BYTES + parameters * _HELD_BYTES[plan.load_in] + activations
    hub = not recipe.backbone.model.startswith("package:") or recipe.data.source.startswith("hub:")
    fits = None if needed is None else needed < room
    return Fit(name, plan.load_in, parameters, needed, fits, hub, "; ".join(plan.notes))


def _parameters(model: str) -> float | None:
    """The size in a model's name: ``TinyLlama-1.1B`` and ``smollm2-135m`` say 1.1e9 and 135e6."""
    found = re.search(r"(?<![\w.])(\d+(?:\.\d+)?)([mb])(?![a-z0-9])", model.lower().replace("_", "-"))
    return float(found[1]) * {"m": 1e6, "b": 1e9}[found[2]] if found else None


def _four_bit(device: str) -> bool:
    """Quantize one block and look whether it comes back."""
    import torch
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    if device == "mps":
        return False
    weight = torch.linspace(-1, 1, 64, device=device)[None]
    packed, state = quantize_4bit(weight, quant_type="nf4")
    return bool((dequantize_4bit(packed, state) - weight).abs().max() < 0.2)
