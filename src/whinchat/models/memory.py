"""What the process holds, and what the C library does with freed memory: only glibc can be told; elsewhere nothing."""

from __future__ import annotations

import ctypes
import platform
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

import psutil

# From glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -2, -3, -8


@cache
def reuse_freed_memory() -> None:
    """Let the process keep what it frees, up to 1 GiB, for its next tensors.

    By default glibc asks the system for every larger tensor and gives it back at once, so that each is made of fresh
    pages, and the system fills each page with zeros when it is first touched: a quarter of a training step.
    """
    if (options := _glibc("mallopt")) is not None:
        # glibc before 2.35 takes no more than 32 MiB.
        options(_MMAP_THRESHOLD, 1 << 30) or options(_MMAP_THRESHOLD, 32 << 20)
        options(_TRIM_THRESHOLD, 1 << 30)
        options(_TOP_PAD, 64 << 20)
        # What one thread frees serves the others, too; a thread's own heap is small and given back at once.
        options(_ARENA_MAX, 1)


def give_back_memory() -> None:
    """Return to the system what the process has freed."""
    if (trim := _glibc("malloc_trim")) is not None:
        trim(0)


def peak_memory_bytes() -> int:
    """Return the largest resident size of this process so far."""
    status = Path("/proc/self/status")  # Linux
    peaks = re.findall(r"VmHWM:\s*(\d+) kB", status.read_text(encoding="utf-8") if status.is_file() else "")
    if peaks:
        # Not getrusage: its maximum survives exec, so a process would begin with the size of the one that started it.
        return 1024 * int(peaks[0])
    info = psutil.Process().memory_info()
    if hasattr(info, "peak_wset"):  # Windows
        return int(info.peak_wset)
    import resource

    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Kilobytes on Linux, bytes on macOS.
    return int(largest if platform.system() == "Darwin" else largest * 1024)


def _glibc(name: str) -> Any:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
