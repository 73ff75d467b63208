"""The benchmark of what answers cost, on a tiny run with a student."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest

from benchmarks import answer_cost
from tests.helpers import finished_runs, tiny_models
from whinchat.pipelines.distill_run import distill_run


def test_a_run_is_measured_without_and_with_its_student(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(finished_runs.finished_run(tiny_llama), tmp_path / "run")
    texts, table = tiny_models.toy_rows(400, tiny_models.ONE_TOKEN, 7)[0], tmp_path / "texts.csv"
    with table.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text",), *((f"{text} {row}",) for row, text in enumerate(texts))])
    distill_run(run, table, agreement=0.7, delta=0.1)
    monkeypatch.setattr(answer_cost, "RESULTS", tmp_path / "results.json")
    answer_cost.main([str(run), "--texts", str(table), "--rounds", "2", "--size", "100"])
    alone, both = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["ways"]
    assert (alone["way"], both["way"]) == (str(run), f"{run} with its student")
    assert alone["ratio"] == 1
    assert alone["by_student"] == 0 < both["by_student"] <= 1
    assert alone["hours_for_ten_million"] == pytest.approx(1e7 / alone["texts_per_second"] / 3600)
    answer_cost.main(["--table"])
    assert "hours for ten million" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        answer_cost.main([str(run), "--texts", str(table), "--size", "5000"])
