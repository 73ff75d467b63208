"""``whinchat runs`` and ``whinchat report``, for runs that are finished, unfinished or damaged."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.helpers import tiny_questions
from tests.helpers.command_line import Whinchat
from whinchat.storage.run_folder import RunFolder


@pytest.fixture
def runs(a_run: Path, tmp_path: Path) -> Path:
    """Return a folder with runs in every state, and with files and folders that are not runs."""
    folder = tmp_path / "runs"
    states = {
        "done": (),
        "trained": ("manifest.json", "after.json"),
        "begun": ("manifest.json", "after.json", "adapter"),
    }
    for name, missing in states.items():
        copy = shutil.copytree(a_run, folder / name)
        for entry in missing:
            (shutil.rmtree if (copy / entry).is_dir() else os.remove)(copy / entry)
    shutil.copytree(a_run, folder / "[broken]")
    (folder / "[broken]" / "manifest.json").write_text("{}", encoding="utf-8")
    shutil.copytree(a_run / "adapter", folder / "adapter-alone")
    (folder / "arena").mkdir()
    (folder / "notes.txt").write_text("mine", encoding="utf-8")
    # The finished run is much older than the others.
    for name in ("trained", "begun", "[broken]"):
        os.utime(folder / name / "recipe.yaml", (4e9, 4e9))
    return folder


def test_every_run_is_listed(whinchat: Whinchat, runs: Path) -> None:
    result = whinchat("runs", runs, "--json")
    assert result.code == 0
    listed = json.loads(result.out)
    assert listed[-1]["name"] == "done"
    run_of = {run["name"]: run for run in listed}
    assert {name: run["state"] for name, run in run_of.items()} == {
        "done": "finished", "trained": "trained", "begun": "begun", "[broken]": "unreadable",
    }  # fmt: skip
    record = RunFolder(runs / "done").read()
    done = run_of["done"]
    assert (done["task"], done["method"], done["rows"]) == ("tiny", "LoRA", record.manifest.splits["train"].rows)
    assert (done["before"], done["after"]) == (record.before.score.macro_f1, record.shipped.macro_f1)
    assert done["seconds"] == pytest.approx(sum(record.manifest.timings_seconds.values()))
    assert done["bytes"] == sum(file.stat().st_size for file in (runs / "done").rglob("*") if file.is_file())
    assert done["created"] == record.manifest.created
    assert run_of["trained"]["before"] == record.before.score.macro_f1
    assert run_of["trained"]["after"] is None
    assert run_of["[broken]"]["problem"].startswith(f"{runs}/[broken]/manifest.json: not what this version")


def test_the_table_of_runs(whinchat: Whinchat, runs: Path) -> None:
    result = whinchat("runs", runs)
    assert result.code == 0
    record = RunFolder(runs / "done").read()
    line = next(line for line in result.out.splitlines() if line.startswith("done\t"))
    for cell in ("tiny", "LoRA", f"{record.before.score.macro_f1:.3f} → {record.shipped.macro_f1:.3f}"):
        assert cell in line
    # An unfinished run shows its state instead of a time.
    line = next(line for line in result.out.splitlines() if line.startswith("trained\t"))
    assert line.split("\t")[5] == "trained"
    assert "[broken]" in result.out
    assert f"{runs}/[broken]/manifest.json: not what this version of whinchat writes" in result.out


def test_a_run_with_questions_shows_the_mean_of_its_main_metrics(
    whinchat: Whinchat, runs: Path, tiny_llama: Path
) -> None:
    run = tiny_questions.finished_run(tiny_llama)
    shutil.copytree(run, runs / "asked")
    shutil.copytree(run, runs / "unfinished", ignore=shutil.ignore_patterns("manifest.json", "questions.json"))
    results = RunFolder(run).read_questions().questions
    means = [
        float(np.mean([metrics(result).values[result.headline.name] for result in results]))
        for metrics in (lambda result: result.before, lambda result: result.shipped)
    ]
    run_of = {run["name"]: run for run in json.loads(whinchat("runs", runs, "--json").out)}
    asked = run_of["asked"]
    assert (asked["questions"], asked["before"], asked["after"]) == (4, None, None)
    assert [asked["mean_before"], asked["mean_after"]] == pytest.approx(means)
    assert (run_of["unfinished"]["questions"], run_of["unfinished"]["mean_after"]) == (4, None)
    assert (run_of["done"]["questions"], run_of["done"]["mean_after"]) == (None, None)
    lines = [line.split("\t") for line in whinchat("runs", runs).out.splitlines() if "\t" in line]
    row_of = {line[0]: dict(zip(lines[0], line, strict=True)) for line in lines[1:]}
    assert row_of["asked"]["macro-F1"] == ""
    assert row_of["asked"]["mean of main metrics"] == f"{means[0]:.3f} → {means[1]:.3f}"
    assert (row_of["done"]["questions"], row_of["unfinished"]["questions"]) == ("", "4")


def test_a_resumed_run_has_no_time(whinchat: Whinchat, runs: Path) -> None:
    path = runs / "done" / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    del manifest["timings_seconds"]["train"]
    path.write_text(json.dumps(manifest), encoding="utf-8")
    run_of = {run["name"]: run for run in json.loads(whinchat("runs", runs, "--json").out)}
    assert run_of["done"]["seconds"] is None
    assert run_of["done"]["state"] == "finished"


def test_no_runs(whinchat: Whinchat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = whinchat("runs")
    assert result.code == 2
    assert result.err.startswith("error: runs: there is no such folder; runs are written to runs/ by default")
    assert "no runs; make one" in whinchat("runs", ".").out
    assert json.loads(whinchat("runs", ".", "--json").out) == []


def test_report_opens_in_the_browser_if_there_is_a_screen(
    whinchat: Whinchat, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda uri: opened.append(uri) or True)
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    report = RunFolder(runs / "done").report
    assert whinchat("report", runs / "done").out == f"Report: {report}\n"
    assert opened == []
    monkeypatch.setenv("BROWSER", "firefox")
    assert whinchat("report", runs / "done").out == f"Opened {report}\n"
    assert opened == [report.as_uri()]
    assert json.loads(whinchat("report", runs / "done", "--json").out)["report"] == str(report)
    assert len(opened) == 1
    # Missing files are written again from the records.
    figure = runs / "done" / "figures" / "per_label.png"
    figure.unlink()
    report.unlink()
    assert whinchat("report", runs / "done", "--json").code == 0
    assert figure.is_file()
    assert f"{RunFolder(runs / 'done').read().after.score.macro_f1:.3f}" in report.read_text(encoding="utf-8")


def test_rewrite_writes_the_report_again(whinchat: Whinchat, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Path] = []
    monkeypatch.setattr(
        "whinchat.pipelines.rebuild_report.write_report_files", lambda _, folder: written.append(folder.path)
    )
    assert whinchat("report", runs / "done", "--rewrite", "--json").code == 0
    assert [draft.parent for draft in written] == [runs / "done"]
    result = whinchat("report", runs / "begun", "--rewrite")
    assert result.code == 2
    assert "missing, so this run is not finished" in result.err
