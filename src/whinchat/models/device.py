"""Plan device, data types and attention before anything is loaded."""

import os
import platform
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import torch

from whinchat.errors import ModelError
from whinchat.recipe.model_config import BackboneConfig

Dtype = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class Machine:
    """What this machine computes fast.

    Attributes:
        accelerators: devices besides the CPU ("cuda", "mps"), best first.
        fast_bfloat16: the device multiplies bfloat16 in hardware.
        fast_float16: the device multiplies float16 in hardware.
    """

    accelerators: tuple[str, ...]
    fast_bfloat16: bool
    fast_float16: bool

    @property
    def best_device(self) -> str:
        """The first accelerator, or "cpu" where there is none."""
        return (*self.accelerators, "cpu")[0]


@dataclass(frozen=True)
class DevicePlan:
    """How the weights of a model are held and multiplied.

    Attributes:
        device: "cpu", "cuda" or "mps".
        load_in: data type of the frozen weights.
        compute_dtype: data type of the products.
        attn_implementation: attention of transformers.
        double_quant: whether NF4's scales are quantized, too.
        notes: sentences that say where the plan departs from the recipe, and why.
    """

    device: str
    load_in: Literal["float32", "bfloat16", "float16", "nf4"]
    compute_dtype: Dtype
    attn_implementation: Literal["eager", "sdpa"]
    double_quant: bool
    notes: tuple[str, ...] = ()

    @property
    def torch_dtype(self) -> torch.dtype:
        """``compute_dtype`` as torch has it."""
        dtype: torch.dtype = getattr(torch, self.compute_dtype)
        return dtype


def detect_machine(device: str = "auto") -> Machine:
    """Look at the hardware of this machine.

    Args:
        device: the device whose data types are judged; "auto" for the best one.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    accelerators = tuple(name for name in available if available[name])
    device = (*accelerators, "cpu")[0] if device == "auto" else device
    if device == "cuda" and "cuda" in accelerators:
        return Machine(accelerators, torch.cuda.is_bf16_supported(including_emulation=False), fast_float16=True)
    if device == "mps":
        return Machine(accelerators, fast_bfloat16=True, fast_float16=True)
    capabilities = torch.cpu.get_capabilities()
    # Without these units oneDNN emulates the products, tens of times slower than float32.
    return Machine(
        accelerators,
        fast_bfloat16=any(capabilities.get(unit, False) for unit in ("avx512_bf16", "amx_bf16", "bf16")),
        fast_float16=any(capabilities.get(unit, False) for unit in ("avx512_fp16", "amx_fp16", "fp16")),
    )


def processor_name() -> str:
    """Return the model name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def installed_versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the version of Python, and of each of ``packages`` that is installed."""
    versions = {"python": platform.python_version()}
    for package in packages:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions


def usable_cores() -> int:
    """Return the number of cores this process may use, which ``taskset`` and containers can limit."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def plan_device(backbone: BackboneConfig, machine: Machine | None = None) -> DevicePlan:
    """Decide how to hold and multiply the weights on this machine.

    Args:
        backbone: the section of the recipe.
        machine: the hardware; None to look at this machine.

    Raises:
        ModelError: the recipe names a device that this machine lacks, or NF4 on a device without kernels for it.
    """
    machine = machine or detect_machine(backbone.device)
    device = machine.best_device if backbone.device == "auto" else backbone.device
    if device not in (*machine.accelerators, "cpu"):
        raise ModelError(
            f"backbone.device: this machine has no {device}, only {', '.join((*machine.accelerators, 'cpu'))}; "
            "set backbone.device=auto"
        )
    if backbone.load_in == "nf4" and device == "mps":
        raise ModelError(
            "backbone.load_in: nf4 needs bitsandbytes, which has no kernels for mps; set backbone.device=cpu"
        )
    narrow: Dtype = "bfloat16" if machine.fast_bfloat16 else "float16" if device != "cpu" else "float32"
    load_in = backbone.load_in
    if load_in == "auto":
        load_in = narrow if backbone.compute_dtype == "auto" else backbone.compute_dtype
    compute = backbone.compute_dtype
    if compute == "auto":
        compute = narrow if load_in == "nf4" else load_in
    notes: tuple[str, ...] = ()
    if compute == "float16" and not machine.fast_float16:
        compute = narrow
        notes = (f"float16 products are emulated on this {device}; {compute} is used instead",)
        load_in = compute if load_in == "float16" else load_in
    if device == "cuda" and compute == "float32" and torch.backends.cuda.matmul.fp32_precision == "tf32":
        # torch's default is exact; only a program around whinchat can have asked for this.
        notes = (*notes, "float32 products are rounded to TF32's 10 bits, as torch's settings in this process ask for")
    attention = backbone.attn_implementation
    if attention == "auto":
        # On a CPU, the backward pass of fused attention costs more time than the kernel saves (docs/decisions.md).
        attention = "eager" if device == "cpu" else "sdpa"
    return DevicePlan(device, load_in, compute, attention, backbone.double_quant, notes)
