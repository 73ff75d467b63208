"""The accelerator of these tests, and engines on it.

``WHINCHAT_TEST_DEVICE=cpu`` runs the tests on the CPU, which shows that they run at all and says nothing of a GPU.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from whinchat.models.device import Machine, detect_machine


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.gpu)


@pytest.fixture(scope="session")
def device() -> str:
    """The device to test; skips where this machine has no accelerator."""
    asked = os.environ.get("WHINCHAT_TEST_DEVICE")
    found = asked or detect_machine().best_device
    if found == "cpu" and not asked:
        pytest.skip("this machine has no CUDA or MPS device")
    return found


@pytest.fixture(scope="session")
def accelerator(device: str) -> Machine:
    """What the device computes fast."""
    return detect_machine(device)


@pytest.fixture(params=["float32", "bfloat16", "float16"])
def dtype(request: pytest.FixtureRequest, accelerator: Machine, device: str) -> str:
    """Each data type in which the device multiplies."""
    fast = {"float32": True, "bfloat16": accelerator.fast_bfloat16, "float16": accelerator.fast_float16}
    if not fast[request.param]:
        pytest.skip(f"this {device} device has no fast {request.param}")
    name: str = request.param
    return name


@pytest.fixture
def cuda(device: str) -> str:
    """The device, where it is CUDA."""
    if device != "cuda":
        pytest.skip("torch counts the memory of CUDA devices alone")
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return device


@pytest.fixture
def nf4_device(device: str) -> str:
    """The device, where bitsandbytes has kernels for NF4."""
    if device == "mps":
        pytest.skip("bitsandbytes has no kernels for MPS")
    pytest.importorskip("bitsandbytes")
    return device
