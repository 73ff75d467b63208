"""The CPU time of a command is that of its process, and an unexpected end is no measurement."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.command_cpu import cpu_seconds


def test_a_command_is_measured_only_if_it_ends_as_expected(tmp_path: Path) -> None:
    assert 0.05 < cpu_seconds(("--version",), 0, tmp_path) < 60
    with pytest.raises(RuntimeError, match="whinchat runs nowhere: exit code 2"):
        cpu_seconds(("runs", "nowhere"), 0, tmp_path)
