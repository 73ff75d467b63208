"""``whinchat predict RUN INPUT --out OUTPUT``."""

from __future__ import annotations

import json
from pathlib import Path

from tests.helpers import finished_runs
from tests.helpers.command_line import Whinchat


def test_a_table_in_and_a_table_out(whinchat: Whinchat, a_run: Path, tmp_path: Path) -> None:
    source = finished_runs.write_csv(tmp_path / "in.csv", rows=9, seed=4)
    with source.open("a", encoding="utf-8") as file:
        file.write("broken\n")
    order = ("predict", a_run, source, "--out", tmp_path / "out.csv", "--prefix", "said_")
    said = whinchat(*order, "--json")
    assert said.code == 0
    shown = json.loads(said.out)
    assert (shown["rows"], shown["bad"], len(shown["files"])) == (10, 1, 1)
    assert sum(shown["labels"].values()) == 9
    lines = (tmp_path / "out.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("text,label,said_label,said_unsure,said_p_")
    assert len(lines) == 11
    said = whinchat(*order)
    assert "10 rows" in said.out
    assert "column said_error" in said.out


def test_what_does_not_go_with_out(whinchat: Whinchat, a_run: Path, tmp_path: Path) -> None:
    source = finished_runs.write_csv(tmp_path / "in.csv", rows=3)
    for wrong, message in (
        ((source, source), "takes one table or folder to label, not 2"),
        ((), "takes one table or folder to label, not 0"),
        ((source,), "has a column 'label' already; choose a prefix"),
        ((tmp_path / "none.csv",), "no such file"),
    ):
        said = whinchat("predict", a_run, *wrong, "--out", tmp_path / "out.csv")
        assert said.code == 2
        assert message in said.err
    assert not (tmp_path / "out.csv.parts").exists()
