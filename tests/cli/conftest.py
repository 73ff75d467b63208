"""A finished run that the commands read."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers import finished_runs


@pytest.fixture(scope="session")
def a_run(tiny_llama: Path) -> Path:
    """A finished run, to be read only."""
    return finished_runs.finished_run(tiny_llama)
