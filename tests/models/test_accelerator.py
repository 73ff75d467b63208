"""The accelerator that a run names; the GPU is pretended, for these tests run without one."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from whinchat.models.accelerator import AcceleratorFacts, accelerator_facts


def test_a_gpu_has_a_name_a_memory_and_a_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    properties = SimpleNamespace(name="Tesla T4", total_memory=15_828_320_256)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: 3_221_225_472)
    assert accelerator_facts("cuda") == AcceleratorFacts("Tesla T4", 15_828_320_256, 3_221_225_472)
    assert accelerator_facts("cpu") is None, "a run on the CPU of such a machine"


def test_metal_counts_no_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 12_000_000_000)
    found = accelerator_facts("mps")
    assert found is not None
    assert (found.memory_bytes, found.peak_bytes) == (12_000_000_000, None)


def test_no_accelerator_is_named_where_there_is_none() -> None:
    assert accelerator_facts("cpu") is None
