"""Name the accelerator that a run computed on, and read its memory."""

from dataclasses import dataclass

import torch

from whinchat.models.device import processor_name


@dataclass(frozen=True)
class AcceleratorFacts:
    """One accelerator.

    Attributes:
        name: name of the GPU, or of the chip for "mps".
        memory_bytes: its memory; for "mps", the share of the main memory that Metal recommends to use at most.
        peak_bytes: most memory that this process has held on the device; None where torch does not count it.
    """

    name: str
    memory_bytes: int
    peak_bytes: int | None


def accelerator_facts(device: str) -> AcceleratorFacts | None:
    """Return the accelerator behind ``device``: "cpu", "cuda" or "mps"; None for a CPU."""
    if device == "cuda" and torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        return AcceleratorFacts(properties.name, properties.total_memory, torch.cuda.max_memory_reserved(0))
    if device == "mps":
        return AcceleratorFacts(processor_name(), torch.mps.recommended_max_memory(), None)
    return None
