"""Read the peak memory of the process, and bound what glibc and oneDNN keep; other libraries stay unchanged."""

import ctypes
import os
import platform
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

import psutil

# Options of ``mallopt``, from glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -2, -3, -8
# Compiled products that oneDNN keeps for later batches of the same shape, half a megabyte each. A training step of a
# Llama takes about 25, and hardly ever meets the shapes of an earlier one.
_ONEDNN_PRODUCTS = 128


def bound_onednn_cache() -> None:
    """Let oneDNN keep fewer compiled products than its 1,024, unless the environment says otherwise.

    oneDNN reads the variable when it computes its first product.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(_ONEDNN_PRODUCTS))


@cache
def reuse_freed_memory() -> None:
    """Let the process reuse up to 1 GiB of freed memory for its next tensors.

    By default glibc requests every larger tensor from the system and returns it as soon as it is freed. The system then
    fills each page of a new tensor with zeros, which takes a quarter of the time of a training step.
    """
    if (mallopt := _glibc("mallopt")) is not None:
        # glibc before 2.35 accepts at most 32 MiB.
        mallopt(_MMAP_THRESHOLD, 1 << 30) or mallopt(_MMAP_THRESHOLD, 32 << 20)
        mallopt(_TRIM_THRESHOLD, 1 << 30)
        mallopt(_TOP_PAD, 64 << 20)
        # One heap for all threads, so that memory freed by one thread serves the others.
        mallopt(_ARENA_MAX, 1)


def give_back_memory() -> None:
    """Return freed memory to the system."""
    if (malloc_trim := _glibc("malloc_trim")) is not None:
        malloc_trim(0)


def peak_memory_bytes() -> int:
    """Return the largest resident size of this process so far, in bytes."""
    status = Path("/proc/self/status")  # Linux
    peaks = re.findall(r"VmHWM:\s*(\d+) kB", status.read_text(encoding="utf-8") if status.is_file() else "")
    if peaks:
        # Not getrusage: its maximum survives exec, so a process would begin with the size of the one that started it.
        return 1024 * int(peaks[0])
    info = psutil.Process().memory_info()
    if hasattr(info, "peak_wset"):  # Windows
        return int(info.peak_wset)
    import resource  # does not exist on Windows

    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Kilobytes on Linux, bytes on macOS.
    return int(largest if platform.system() == "Darwin" else largest * 1024)


def _glibc(name: str) -> Any:
    """Return the function ``name`` of the C library; None where there is no such function or no Linux."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
