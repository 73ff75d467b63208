"""Workers in real processes: rounds in turn, failures on their own account."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from benchmarks.measure import Contest, Worker, WorkerError, measure


def contest(folder: Path, name: str, kind: str = "Steady", *, count: bool = False, **options: Any) -> Contest:
    chosen = {"name": name, "journal": str(folder / "journal"), **options}
    return Contest(name, f"tests.helpers.fake_contestants:{kind}", name, chosen, count_flops=count)


def test_rounds_are_interleaved_and_stdout_stays_clean(tmp_path: Path) -> None:
    said: list[str] = []
    entries = measure(
        "g", [contest(tmp_path, "one", count=True), contest(tmp_path, "two")], 2, tmp_path / "logs", said.append
    )
    journal = (tmp_path / "journal").read_text(encoding="utf-8").split("\n")[:-1]
    assert journal == ["one load", "two load", "one round 1", "two round 1", "one round 2", "two round 2"]
    first = entries["one"].to_dict()
    assert first["per_second"] == {"median": 5.0, "min": 5.0, "max": 5.0}
    assert first["flops_per_round"] == 5e9
    assert entries["two"].flops_per_round is None
    assert first["peak_bytes"] >= first["loaded_bytes"] > 0
    assert first["facts"] == {"kind": "fake"}
    assert "hello on stdout" in (tmp_path / "logs" / "one.log").read_text(encoding="utf-8")
    assert said[-1] == "[g 2/2] two: 5.0 examples/s (2.0 s)"


def test_failures_do_not_stop_the_others(tmp_path: Path) -> None:
    contests = [
        contest(tmp_path, "raises", fails_at=2),
        contest(tmp_path, "dies", dies_at=1),
        contest(tmp_path, "missing", "Missing"),
        contest(tmp_path, "unknown", "NoSuchClass"),
        contest(tmp_path, "well"),
    ]
    entries = measure("g", contests, 2, tmp_path / "logs", lambda _: None)
    raised = entries["raises"]
    assert len(raised.rounds) == 1
    assert raised.error is not None
    assert raised.error.startswith("RuntimeError: out of luck (at round; see ")
    assert "exit code 3 at round" in (entries["dies"].error or "")
    assert entries["missing"].unavailable == "it is not installed; make something builds it"
    assert entries["missing"].error is None
    assert "NoSuchClass" in (entries["unknown"].error or "")
    assert len(entries["well"].rounds) == 2


def test_a_worker_that_takes_too_long(tmp_path: Path) -> None:
    with (
        Worker(contest(tmp_path, "one"), tmp_path / "log") as worker,
        pytest.raises(WorkerError, match=r"start took longer than 0\.01 s; see "),
    ):
        worker.ask("start", timeout=0.01)


def test_no_round_begins_that_would_end_too_late(tmp_path: Path) -> None:
    said: list[str] = []
    entries = measure("g", [contest(tmp_path, "one")], 5, tmp_path / "logs", said.append, limit_seconds=0.0)
    assert len(entries["one"].rounds) == 2
    assert said[-1].startswith("[g] 2 rounds of 5: ")
