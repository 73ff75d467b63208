"""A finished run to export."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers import finished_runs


@pytest.fixture(scope="session")
def trained(tiny_llama: Path) -> Path:
    return finished_runs.finished_run(tiny_llama)
