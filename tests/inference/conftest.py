"""A finished run, and a table to label with it."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tests.helpers import finished_runs, tiny_models
from tests.helpers.tables import ROWS


@pytest.fixture(scope="session")
def trained(tiny_llama: Path) -> Path:
    return finished_runs.finished_run(tiny_llama)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A CSV of ``ROWS`` rows, texts of many lengths, the last row broken."""
    texts, _ = tiny_models.toy_rows(ROWS - 1, tiny_models.ONE_TOKEN, 3)
    path = tmp_path / "in.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "text"))
        writer.writerows((at, text * (1 + at % 4)) for at, text in enumerate(texts))
        writer.writerow(("broken",))
    return path
