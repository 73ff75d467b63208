"""Folders that are expensive to make and only read: one for all test processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def make_once(folder: Path, make: Callable[[Path], object]) -> Path:
    """Return ``folder``; the first test process that asks calls ``make`` with it while the others wait."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    done = folder.with_name(f"{folder.name}.done")
    with FileLock(f"{folder}.lock"):
        if not done.exists():
            make(folder)
            done.touch()
    return folder


def shared_root(factory: pytest.TempPathFactory) -> Path:
    """The temporary folder of the whole test run, which pytest-xdist's processes have in common."""
    base = factory.getbasetemp()
    return base.parent if base.name.startswith("popen-") else base
