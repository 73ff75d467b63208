"""``whinchat runs`` and ``whinchat report``: what is there, in whatever state it is."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.helpers.command_line import Whinchat
from whinchat.storage.run_folder import RunFolder


@pytest.fixture
def runs(a_run: Path, tmp_path: Path) -> Path:
    """A folder with runs in every state, and with what is none."""
    folder = tmp_path / "runs"
    states = {
        "done": (),
        "trained": ("manifest.json", "after.json"),
        "begun": ("manifest.json", "after.json", "adapter"),
    }
    for name, lacking in states.items():
        copy = shutil.copytree(a_run, folder / name)
        for one in lacking:
            (shutil.rmtree if (copy / one).is_dir() else os.remove)(copy / one)
    shutil.copytree(a_run, folder / "[broken]")
    (folder / "[broken]" / "manifest.json").write_text("{}", encoding="utf-8")
    shutil.copytree(a_run / "adapter", folder / "adapter-alone")
    (folder / "arena").mkdir()
    (folder / "notes.txt").write_text("mine", encoding="utf-8")
    # Finished long before the others began.
    for name in ("trained", "begun", "[broken]"):
        os.utime(folder / name / "recipe.yaml", (4e9, 4e9))
    return folder


def test_every_run_is_listed(whinchat: Whinchat, runs: Path) -> None:
    said = whinchat("runs", runs, "--json")
    assert said.code == 0
    listed = json.loads(said.out)
    assert listed[-1]["name"] == "done"
    found = {one["name"]: one for one in listed}
    assert {name: one["state"] for name, one in found.items()} == {
        "done": "finished", "trained": "trained", "begun": "begun", "[broken]": "unreadable",
    }  # fmt: skip
    record = RunFolder(runs / "done").read()
    done = found["done"]
    assert (done["task"], done["method"], done["rows"]) == ("tiny", "LoRA", record.manifest.splits["train"].rows)
    assert (done["before"], done["after"]) == (record.before.score.macro_f1, record.after.score.macro_f1)
    assert done["seconds"] == pytest.approx(sum(record.manifest.timings_seconds.values()))
    assert done["bytes"] == sum(one.stat().st_size for one in (runs / "done").rglob("*") if one.is_file())
    assert done["created"] == record.manifest.created
    assert found["trained"]["before"] == record.before.score.macro_f1
    assert found["trained"]["after"] is None
    assert found["[broken]"]["problem"].startswith(f"{runs}/[broken]/manifest.json: not what this version")


def test_the_table(whinchat: Whinchat, runs: Path) -> None:
    said = whinchat("runs", runs)
    assert said.code == 0
    record = RunFolder(runs / "done").read()
    line = next(line for line in said.out.splitlines() if " done " in line)
    for cell in ("tiny", "LoRA", f"{record.before.score.macro_f1:.3f} → {record.after.score.macro_f1:.3f}"):
        assert cell in line
    # What has no time yet says why.
    line = next(line for line in said.out.splitlines() if line.startswith("│ trained "))
    assert line.split("│")[6].strip() == "trained"
    assert "[broken]" in said.out
    assert f"{runs}/[broken]/manifest.json: not what this version of whinchat writes" in said.out


def test_a_resumed_run_has_no_time(whinchat: Whinchat, runs: Path) -> None:
    path = runs / "done" / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    del manifest["timings_seconds"]["train"]
    path.write_text(json.dumps(manifest), encoding="utf-8")
    found = {one["name"]: one for one in json.loads(whinchat("runs", runs, "--json").out)}
    assert found["done"]["seconds"] is None
    assert found["done"]["state"] == "finished"


def test_no_runs(whinchat: Whinchat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = whinchat("runs")
    assert said.code == 2
    assert said.err.startswith("error: runs: there is no such folder; runs are written to runs/ by default")
    assert "no runs; make one" in whinchat("runs", ".").out
    assert json.loads(whinchat("runs", ".", "--json").out) == []


def test_report(whinchat: Whinchat, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    # What is missing is drawn from the records.
    figure = runs / "done" / "figures" / "per_label.png"
    figure.unlink()
    report.unlink()
    assert whinchat("report", runs / "done", "--json").code == 0
    assert figure.is_file()
    assert f"{RunFolder(runs / 'done').read().after.score.macro_f1:.3f}" in report.read_text(encoding="utf-8")


def test_report_written_anew(whinchat: Whinchat, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Path] = []
    monkeypatch.setattr(
        "whinchat.pipelines.rebuild_report.write_report_files", lambda _, folder: written.append(folder.path)
    )
    assert whinchat("report", runs / "done", "--rewrite", "--json").code == 0
    assert written == [runs / "done"]
    said = whinchat("report", runs / "begun", "--rewrite")
    assert said.code == 2
    assert "missing, so this run is not finished" in said.err
