"""How tables are printed on narrow and wide terminals."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from whinchat.cli import output
from whinchat.report.text_table import TextTable

COLUMNS = ("run", "macro-F1 before", "macro-F1 after", "peak memory")
ROWS = (("first", "0.212", "0.733 (0.712–0.754)", "5.45 GiB"), ("second [bold]", "0.209", "0.728", "3.1 GiB"))


def printed(monkeypatch: pytest.MonkeyPatch, width: int, rows: tuple[tuple[str, ...], ...] = ROWS) -> list[str]:
    file = io.StringIO()
    monkeypatch.setattr(output, "out", Console(file=file, width=width))
    output.print_table(TextTable("Runs", COLUMNS, rows))
    lines = file.getvalue().splitlines()
    assert all(len(line) <= width for line in lines)
    return lines


def test_a_table_that_fits_is_not_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = printed(monkeypatch, 100)
    assert all(name in lines[1] for name in COLUMNS)
    assert all(cell in lines[4] for cell in ROWS[1])


def test_a_table_that_is_too_wide_is_transposed(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = printed(monkeypatch, 60)
    assert all(row[0] in lines[1] for row in ROWS)
    for index, name in enumerate(COLUMNS[1:], start=1):
        assert any(all(cell in line for cell in (name, ROWS[0][index], ROWS[1][index])) for line in lines)


def test_a_long_table_is_not_transposed_and_keeps_every_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = printed(monkeypatch, 50, ROWS * 5)
    assert sum(line[1:].lstrip().startswith("first") for line in lines) == 5
    whole = "".join(lines)
    assert all(part in whole for part in ("macro-F1", "before", "after", "memory", "0.733", "5.45"))


def test_a_table_without_rows_is_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert printed(monkeypatch, 80, ()) == []
