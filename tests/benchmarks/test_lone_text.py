"""The benchmark of one text at a time measures both sides, and its ratio is above 1 where whinchat is faster."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import lone_text
from tests.helpers import finished_runs


def test_both_sides_are_measured(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = tmp_path / "lone_text.json"
    monkeypatch.setattr(lone_text, "RESULTS", measured)
    lone_text.main([str(finished_runs.finished_run(tiny_llama)), "--texts", "4"])
    lines = capsys.readouterr().out.splitlines()
    cells = [line.strip("| ").split(" | ") for line in lines[-2:]]
    assert [line[0] for line in cells] == ["time", "CPU time"]
    assert all(float(cell) > 0 for line in cells for cell in line[1:])
    assert json.loads(measured.read_text(encoding="utf-8"))["ratio"] > 0


def test_the_ratio_is_the_median_of_the_texts() -> None:
    found = [(lone_text.Duration(0.1, 0.2), lone_text.Duration(theirs, 0.1)) for theirs in (0.1, 0.2, 0.9)]
    lines = lone_text.summarize(found).splitlines()
    assert [line.strip("| ").split(" | ") for line in lines[-2:]] == [
        ["time", "100.0", "200.0", "2.00"],
        ["CPU time", "200.0", "100.0", "0.50"],
    ]
