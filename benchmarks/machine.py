"""What was measured on what: machine, versions, commit, command."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import psutil

from benchmarks.process import ROOT
from whinchat.models.device import processor_name

PACKAGES = ("whinchat", "torch", "transformers", "peft", "trl", "bitsandbytes", "llama_cpp_python", "numpy")


def machine(threads: int | None) -> dict[str, Any]:
    """Processor, cores, memory, system."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": processor_name(),
        "cores": cores,
        "threads": threads or int(os.environ.get("OMP_NUM_THREADS") or cores or 1),
        "bf16_units": sorted(_flags() & {"avx512_bf16", "amx_bf16", "amx_tile", "bf16"}),
        "memory_bytes": psutil.virtual_memory().total,
        "load_before": list(os.getloadavg()),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def versions() -> dict[str, str | None]:
    """Of every library that was measured; None where it is not installed."""
    return {name: _version(name) for name in PACKAGES}


def provenance() -> dict[str, Any]:
    """When, from which commit, by which command."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain", "--", "src", "benchmarks")),
        "command": " ".join(["python -m benchmarks", *sys.argv[1:]]),
    }


def _flags() -> set[str]:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123  # a line is enough
            return next((set(line.split()) for line in lines if line.startswith("flags")), set())
    except OSError:
        return set()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True, cwd=ROOT)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
