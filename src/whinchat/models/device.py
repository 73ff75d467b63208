"""One plan for device, data types and attention, decided before anything is loaded."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from whinchat.errors import ModelError
from whinchat.recipe.schema import BackboneConfig

Dtype = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class Machine:
    """What this machine multiplies fast."""

    accelerators: tuple[str, ...]
    fast_bfloat16: bool
    fast_float16: bool

    @property
    def best_device(self) -> str:
        """The first accelerator, or the CPU."""
        return (*self.accelerators, "cpu")[0]


@dataclass(frozen=True)
class DevicePlan:
    """How the weights are held and multiplied.

    ``notes`` says where the machine made the plan differ from the recipe.
    """

    device: str
    load_in: Literal["float32", "bfloat16", "float16", "nf4"]
    compute_dtype: Dtype
    attn_implementation: Literal["eager", "sdpa"]
    double_quant: bool
    notes: tuple[str, ...] = ()

    @property
    def torch_dtype(self) -> torch.dtype:
        """Data type of the products."""
        dtype: torch.dtype = getattr(torch, self.compute_dtype)
        return dtype


def detect_machine(device: str = "auto") -> Machine:
    """Look at the hardware; data types are judged for ``device``, or for the best one."""
    found = tuple(
        name
        for name, there in (("cuda", torch.cuda.is_available()), ("mps", torch.backends.mps.is_available()))
        if there
    )
    device = (*found, "cpu")[0] if device == "auto" else device
    if device == "cuda" and "cuda" in found:
        return Machine(found, torch.cuda.is_bf16_supported(including_emulation=False), fast_float16=True)
    if device == "mps":
        return Machine(found, fast_bfloat16=True, fast_float16=True)
    can = torch.cpu.get_capabilities()
    # Without these units oneDNN emulates the products, tens of times slower than float32.
    return Machine(
        found,
        fast_bfloat16=any(can.get(unit, False) for unit in ("avx512_bf16", "amx_bf16", "bf16")),
        fast_float16=any(can.get(unit, False) for unit in ("avx512_fp16", "amx_fp16", "fp16")),
    )


def processor_name() -> str:
    """What the processor calls itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def usable_cores() -> int:
    """Cores that this process may use; ``taskset`` and containers leave it fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def plan_device(backbone: BackboneConfig, machine: Machine | None = None) -> DevicePlan:
    """Decide how to hold and multiply the weights, or say why the recipe cannot be met here.

    Raises:
        ModelError: the recipe names a device that this machine lacks.
    """
    machine = machine or detect_machine(backbone.device)
    device = machine.best_device if backbone.device == "auto" else backbone.device
    if device not in (*machine.accelerators, "cpu"):
        raise ModelError(
            f"backbone.device: {device} asked for, this machine has {', '.join((*machine.accelerators, 'cpu'))}; "
            "set backbone.device=auto"
        )
    if backbone.load_in == "nf4" and device == "mps":
        raise ModelError("backbone.load_in: nf4 needs bitsandbytes, which has no mps kernels; set backbone.device=cpu")
    narrow: Dtype = "bfloat16" if machine.fast_bfloat16 else "float16" if device != "cpu" else "float32"
    load_in = backbone.load_in
    if load_in == "auto":
        load_in = narrow if backbone.compute_dtype == "auto" else backbone.compute_dtype
    wanted: Dtype = (
        backbone.compute_dtype if backbone.compute_dtype != "auto" else narrow if load_in == "nf4" else load_in
    )
    compute = wanted
    notes: tuple[str, ...] = ()
    if wanted == "float16" and not machine.fast_float16:
        compute = narrow
        notes = (f"float16 products are emulated on this {device}; {compute} is used instead",)
        load_in = compute if load_in == "float16" else load_in
    attention = backbone.attn_implementation
    if attention == "auto":
        # Measured in benchmarks: at tweet lengths the CPU's fused attention loses its time in the backward pass.
        attention = "eager" if device == "cpu" else "sdpa"
    return DevicePlan(device, load_in, compute, attention, backbone.double_quant, notes)
