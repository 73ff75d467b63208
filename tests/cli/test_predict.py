"""``whinchat predict RUN INPUT --out OUTPUT`` labels a table."""

from __future__ import annotations

import json
from pathlib import Path

from tests.helpers import finished_runs
from tests.helpers.command_line import Whinchat


def test_a_table_is_labelled(whinchat: Whinchat, a_run: Path, tmp_path: Path) -> None:
    source = finished_runs.write_csv(tmp_path / "in.csv", rows=9, seed=4)
    with source.open("a", encoding="utf-8") as file:
        file.write("broken\n")
    arguments = ("predict", a_run, source, "--out", tmp_path / "out.csv", "--prefix", "said_")
    result = whinchat(*arguments, "--json")
    assert result.code == 0
    counts = json.loads(result.out)
    assert (counts["rows"], counts["bad"], len(counts["files"])) == (10, 1, 1)
    assert sum(counts["labels"].values()) == 9
    lines = (tmp_path / "out.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("text,label,said_label,said_unsure,said_p_")
    assert len(lines) == 11
    result = whinchat(*arguments)
    assert "10 rows" in result.out
    assert "column said_error" in result.out


def test_errors_with_out(whinchat: Whinchat, a_run: Path, tmp_path: Path) -> None:
    source = finished_runs.write_csv(tmp_path / "in.csv", rows=3)
    for wrong, message in (
        ((source, source), "takes one table or folder to label, not 2"),
        ((), "takes one table or folder to label, not 0"),
        ((source,), "has a column 'label' already; choose a prefix"),
        ((tmp_path / "none.csv",), "no such file"),
    ):
        result = whinchat("predict", a_run, *wrong, "--out", tmp_path / "out.csv")
        assert result.code == 2
        assert message in result.err
    assert not (tmp_path / "out.csv.parts").exists()
