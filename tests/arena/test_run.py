"""An arena in its folder: what is done is kept, what failed is named, and what does not fit is refused."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest

from tests.helpers.arenas import MakeSpec
from tests.helpers.command_line import Whinchat
from whinchat.arena import run_arena as runner
from whinchat.arena.arena_folder import ArenaFolder
from whinchat.arena.run_arena import run_arena, summarize_arena
from whinchat.arena.spec import load_arena, resolve_arena
from whinchat.arena.trial_process import run_trial
from whinchat.arena.trials import Trial, TrialJob, TrialRecord
from whinchat.data.sources import load_corpus
from whinchat.errors import DataError, OutputError, RunError


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[Trial]:
    """Run trials in this process, and list them."""
    trials: list[Trial] = []

    def in_process(job: TrialJob, folder: ArenaFolder) -> TrialRecord:
        trials.append(job.trial)
        record = run_trial(job)
        folder.write(record)
        return record

    monkeypatch.setattr(runner, "run_trial_job", in_process)
    return trials


def test_trials_in_processes_of_their_own(spec_file: MakeSpec, tmp_path: Path) -> None:
    """A trial that fails does not stop the next one."""
    impossible = {"name": "too-many", "kind": "prompting", "shots": 30}
    spec = load_arena(str(spec_file(methods=[impossible, "majority"], rows=[20], seeds=[1])))
    said: list[str] = []
    results = run_arena(spec, tmp_path / "out", notify=said.append)
    assert [one.method for one in results.standings[0].summaries] == ["majority"]
    (failure,) = results.failed
    assert failure[0] == "too-many, 20 rows, seed 1"
    assert failure[1].startswith("shots: 30 examples of each label asked for, ")
    assert said[0].endswith("seeds 1; evaluated on 24 rows of validation")
    assert said[-1].startswith("[2/2] majority, 20 rows, seed 1: macro-F1 0.")
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == [
        "arena.yaml", "cells", "cost.png", "cost.svg", "frontier.png", "frontier.svg", "logs", "results.json",
        "results.md",
    ]  # fmt: skip
    assert "too-many, 20 rows, seed 1" in (tmp_path / "out" / "results.md").read_text(encoding="utf-8")


def test_what_is_done_is_not_done_again(spec_file: MakeSpec, tmp_path: Path, ran: list[Trial]) -> None:
    out = tmp_path / "out"
    small = {"methods": ["majority"], "rows": [20], "seeds": [1, 2]}
    first = run_arena(load_arena(str(spec_file(**small))), out)
    assert ran == [Trial("majority", 20, 1), Trial("majority", 20, 2)]
    (out / "cells" / "majority-20-2.json").unlink()
    again = run_arena(load_arena(str(spec_file(**small))), out)
    assert ran[2:] == [Trial("majority", 20, 2)]
    assert [one.scores for one in again.standings[0].summaries] == [one.scores for one in first.standings[0].summaries]
    # An arena may grow: what is new is run, and nothing else.
    run_arena(load_arena(str(spec_file(**{**small, "rows": [20, 30], "seeds": [1]}))), out)
    assert ran[3:] == [Trial("majority", 30, 1)]
    shown = summarize_arena(load_arena(str(spec_file(methods=["majority"], rows=[20, 30, 40], seeds=[1]))), out)
    assert (shown.missing, len(ran)) == (1, 4)


def test_a_failed_trial_is_run_again_when_asked(spec_file: MakeSpec, tmp_path: Path, ran: list[Trial]) -> None:
    path, out = spec_file(methods=["majority"], rows=[20], seeds=[1]), tmp_path / "out"
    run_arena(load_arena(str(path)), out)
    file = out / "cells" / "majority-20-1.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"found": None, "error": "bad luck"}))
    results = run_arena(load_arena(str(path)), out)
    assert (len(ran), results.failed) == (1, (("majority, 20 rows, seed 1", "bad luck"),))
    results = run_arena(load_arena(str(path)), out, retry=True)
    assert (len(ran), results.failed) == (2, ())


def test_other_settings_are_not_mixed_in(spec_file: MakeSpec, tmp_path: Path, ran: list[Trial]) -> None:
    fields = {"methods": ["majority"], "rows": [20], "seeds": [1]}
    run_arena(load_arena(str(spec_file(**fields))), tmp_path / "out")
    changed = load_arena(str(spec_file(**fields)), ["train.learning_rate=0.5"])
    message = r"1 trials were run with other settings: majority, 20 rows, seed 1 \(train\.learning_rate\); use another"
    with pytest.raises(RunError, match=message):
        run_arena(changed, tmp_path / "out")


def test_changed_data_is_said_before_a_trial_is_run(spec_file: MakeSpec, tmp_path: Path, ran: list[Trial]) -> None:
    """Also where only training rows changed, and the new trials have seeds of their own."""
    fields = {"methods": ["majority"], "rows": [20]}
    spec = load_arena(str(spec_file(**fields, seeds=[1])))
    run_arena(spec, tmp_path / "out")
    measured = set(load_corpus(resolve_arena(spec).base).split("validation").texts)
    table = tmp_path / "texts.csv"
    with table.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    text, label = header.index("text"), header.index("label")
    labels = sorted({row[label] for row in rows})
    for row in rows:
        if row[text] not in measured:
            row[label] = labels[(labels.index(row[label]) + 1) % len(labels)]
    with table.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    fault = r"texts\.csv has changed since 1 trial \(majority, 20 rows, seed 1\), so no other can be"
    with pytest.raises(RunError, match=fault):
        run_arena(load_arena(str(spec_file(**fields, seeds=[1, 2]))), tmp_path / "out")
    assert ran == [Trial("majority", 20, 1)]


def test_another_model_under_the_same_name_is_refused(
    spec_file: MakeSpec, tiny_llama_wide: Path, tmp_path: Path, ran: list[Trial]
) -> None:
    model = shutil.copytree(tiny_llama_wide, tmp_path / "model")
    fields = {"rows": [20], "seeds": [1], "set": [f"backbone.model={model}"]}
    run_arena(load_arena(str(spec_file(**fields, methods=["zero-shot", "majority"]))), tmp_path / "out")
    with (model / "config.json").open("a", encoding="utf-8") as file:
        file.write("\n")
    grown = load_arena(str(spec_file(**fields, methods=["zero-shot", "few-shot", "majority"])))
    fault = r"model has other files than when it was measured \(zero-shot, 20 rows, seed 1\); use another --out"
    with pytest.raises(RunError, match=fault):
        run_arena(grown, tmp_path / "out")
    assert len(ran) == 2
    # A method without the model may join.
    run_arena(load_arena(str(spec_file(**fields, methods=["zero-shot", "majority", "tfidf"]))), tmp_path / "out")
    assert ran[2:] == [Trial("tfidf", 20, 1)]


def test_what_is_in_the_way(spec_file: MakeSpec, tmp_path: Path, ran: list[Trial]) -> None:
    spec = load_arena(str(spec_file(methods=["majority"], rows=[20], seeds=[1])))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(RunError, match=r"mine: exists and is not an arena's folder; choose another with --out"):
        run_arena(spec, tmp_path / "mine")
    with pytest.raises(RunError, match=r"nowhere: holds no arena; run it first, or name its folder with --out"):
        summarize_arena(spec, tmp_path / "nowhere")
    with pytest.raises(DataError, match="rows: 5,000 asked for, train has 96; lower rows"):
        run_arena(load_arena(str(spec_file(rows=[20, 5000]))), tmp_path / "new")
    assert not (tmp_path / "new").exists()
    assert ran == []


def test_a_damaged_record(spec_file: MakeSpec, tmp_path: Path, ran: list[Trial]) -> None:
    spec = load_arena(str(spec_file(methods=["majority"], rows=[20], seeds=[1])))
    run_arena(spec, tmp_path / "out")
    (tmp_path / "out" / "cells" / "majority-20-1.json").write_text("{")
    with pytest.raises(
        RunError, match=r"majority-20-1\.json: not readable as JSON .*; delete the file to run the trial ag"
    ):
        run_arena(spec, tmp_path / "out")
    (tmp_path / "out" / "cells" / "majority-20-1.json").write_text("{}")
    with pytest.raises(RunError, match=r"not what this version of whinchat writes \(job: Field required\)"):
        run_arena(spec, tmp_path / "out")


def test_a_log_that_cannot_be_written(spec_file: MakeSpec, tmp_path: Path) -> None:
    spec = load_arena(str(spec_file(methods=["majority"], rows=[20], seeds=[1])))
    folder = ArenaFolder(tmp_path)
    folder.open(spec)
    folder.log(Trial("majority", 20, 1)).mkdir()
    with pytest.raises(OutputError, match=r"logs/majority-20-1\..*: cannot be written \(Is a directory\)"):
        run_arena(spec, tmp_path)


def test_the_command(
    spec_file: MakeSpec,
    tmp_path: Path,
    ran: list[Trial],
    whinchat: Whinchat,
) -> None:
    path = spec_file(methods=["majority", "tfidf"], rows=[20], seeds=[1])
    out = tmp_path / "out"
    said = whinchat("arena", path, "--out", out)
    assert said.code == 0, said
    assert "Against the best simple method" not in said.out, "there is nothing but simple methods"
    assert f"All results: {out / 'results.md'}" in said.out
    assert "[2/2] tfidf, 20 rows, seed 1: macro-F1" in said.err
    found = json.loads(whinchat("arena", out, "--out", out, "--show", "--json").out)
    assert [one["method"] for one in found["summaries"]] == ["majority", "tfidf"]
    assert len(ran) == 2
    assert "vader-curve" in whinchat("arena", "--list").out
    assert {one["name"] for one in json.loads(whinchat("arena", "--list", "--json").out)} >= {"tweeteval-small"}
    assert "arena: no SPEC given; `whinchat arena --list` lists" in whinchat("arena").err
