"""What was measured on what: machine, versions, commit and command."""

import os
import platform
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any

import psutil

from whinchat.models.device import processor_name, usable_cores

ROOT = Path(__file__).resolve().parent.parent


def machine() -> dict[str, Any]:
    """Describe processor, cores, memory and system."""
    features = Path("/proc/cpuinfo")
    flags = features.read_text(encoding="utf-8") if features.is_file() else ""
    return {
        "processor": processor_name(),
        "cores": usable_cores(),
        "threads": int(os.environ.get("OMP_NUM_THREADS") or usable_cores()),
        "bf16_units": sorted(set(re.findall(r"\b(?:avx512_bf16|amx_bf16|amx_tile|bf16)\b", flags))),
        "memory_bytes": psutil.virtual_memory().total,
        "load_before": list(os.getloadavg()),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def versions() -> dict[str, str | None]:
    """Return the version of every measured library; None where it is not installed."""
    names = ("whinchat", "torch", "transformers", "peft", "trl", "bitsandbytes", "llama_cpp_python", "numpy")
    return {name: version(name) if any(distributions(name=name)) else None for name in names}


def provenance(command: str = "python -m benchmarks") -> dict[str, Any]:
    """Return the time, the commit and the command line."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain", "--", "src", "benchmarks")),
        "command": " ".join([command, *sys.argv[1:]]),
    }


def _git(*arguments: str) -> str | None:
    if shutil.which("git") is None:
        return None
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False, cwd=ROOT)
    return done.stdout.strip() if done.returncode == 0 else None
