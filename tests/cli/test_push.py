"""``whinchat push`` with the client of huggingface_hub, to a hub on this machine; then the pushed run is used."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.helpers import tiny_models, tiny_questions
from tests.helpers.command_line import Whinchat
from tests.helpers.hub_server import OWNER, TOKEN, Hub, Repository, in_this_process, serve
from whinchat.evaluation.generation import generate
from whinchat.inference.predictor import Predictor
from whinchat.inference.question_predictor import QuestionPredictor
from whinchat.pipelines.distill_run import distill_run, remove_student
from whinchat.storage.run_folder import RunFolder

REPO, BASE = f"{OWNER}/small-words", "models/tiny-llama"


@pytest.fixture
def hub(tiny_llama: Path) -> Iterator[Hub]:
    """Start a local hub that holds the base model."""
    with serve() as hub:
        model = Repository()
        model.add({file.name: file.read_bytes() for file in tiny_llama.iterdir()})
        hub.repositories[BASE] = model
        yield hub


@pytest.fixture
def logged_in(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """Return the hub, to which this process is logged in."""
    in_this_process(hub, tmp_path, monkeypatch)
    return hub


def run_as_another_user(hub: Hub, home: Path, program: str) -> list[str]:
    """Run Python code in a new process that knows ``hub`` and has no token; return the lines that it prints."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    paths = os.pathsep.join(str(Path(entry).resolve()) for entry in sys.path if entry)
    home.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**kept, "PYTHONPATH": paths, **hub.environment(home, token=None)},
        cwd=home,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def pushed_files(hub: Hub) -> dict[str, bytes]:
    return hub.repositories[REPO].files


def test_a_push_takes_the_student_along_and_removes_that_of_an_earlier_push(
    whinchat: Whinchat, logged_in: Hub, a_run: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(a_run, tmp_path / "run")
    push, names = ("push", run, REPO, "--base", BASE, "--yes"), {"cascade.json", "cascade.safetensors"}
    distill_run(run, agreement=0.5, delta=0.2)
    assert whinchat(*push).code == 0
    assert names <= pushed_files(logged_in).keys()
    assert Predictor.load(REPO).cascade is not None
    remove_student(run)
    assert whinchat(*push).code == 0
    assert not names & pushed_files(logged_in).keys()
    assert Predictor.load(REPO).cascade is None


def test_a_pushed_run_predicts_for_another_user(
    whinchat: Whinchat, logged_in: Hub, a_run: Path, tmp_path: Path
) -> None:
    hub, done = logged_in, whinchat("push", a_run, REPO, "--base", BASE, "--yes", "--json")
    assert done.code == 0, done.err
    result = json.loads(done.out)
    assert result["url"] == f"{hub.url}/{REPO}"
    files = pushed_files(hub)
    assert sorted(files) == sorted(file["path"] for file in result["files"])
    assert sum(map(len, files.values())) == result["bytes"]
    assert {"adapter_model.safetensors", "calibration.json", "recipe.yaml", "README.md", "report.html"} <= set(files)
    assert not any(path.endswith(".parquet") for path in files)
    # The push is one commit after the empty one. No file names a folder of this machine or holds the token.
    assert len(hub.repositories[REPO].commits) == 2
    assert hub.repositories[REPO].private is False
    for path, content in files.items():
        for secret in (str(a_run.parent.parent), TOKEN):
            assert secret.encode() not in content, path
    assert TOKEN not in done.out + done.err
    assert not any(TOKEN in file.read_text(errors="ignore") for file in tmp_path.rglob("*") if file.is_file())
    # The figures of the card are uploaded, and the card names the repository.
    card = files["README.md"].decode()
    figures = re.findall(r"!\[.*?\]\((figures/\w+\.png)\)", card)
    assert len(figures) >= 4
    assert set(figures) <= set(files)
    assert f'whinchat predict {REPO} "text"' in card
    assert f'base, adapter = "{BASE}", "{REPO}"' in card
    assert f"base_model: {BASE}" in card

    # Another user, without a token, with an empty cache and without the run folder, copies the code of the card, which
    # predicts without whinchat and with it.
    texts = list(tiny_models.toy_rows(8, seed=5)[0])
    quick, code = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    plain = code.replace('text = "..."', f"text = {texts[0]!r}")
    shares = f"import json\nprint(json.dumps([model.classes_.tolist(), model.predict_proba({texts!r}).tolist()]))\n"
    *printed, last = run_as_another_user(hub, tmp_path / "bob", f"{plain}\n{quick}\n{shares}")
    predictor = Predictor.load(a_run)
    engine, longest = predictor.engine, predictor.recipe.evaluate.max_new_tokens
    answer = generate(engine, engine.template.encode(texts[:1]), longest, 1)[0]
    assert "\n".join(printed).strip() == answer.strip()
    classes, probabilities = json.loads(last)
    assert classes == list(predictor.recipe.task.labels)
    np.testing.assert_allclose(probabilities, predictor.predict(texts).probabilities, atol=1e-6)


def test_a_dry_run_sends_no_request(whinchat: Whinchat, logged_in: Hub, a_run: Path) -> None:
    result = whinchat("push", a_run, REPO, "--base", BASE, "--dry-run", "--json")
    assert result.code == 0
    pushed = json.loads(result.out)
    assert pushed["url"] is None
    assert {"adapter_model.safetensors", "README.md", "figures/per_label.png"} <= {
        file["path"] for file in pushed["files"]
    }
    assert pushed["bytes"] == sum(file["bytes"] for file in pushed["files"]) > 0
    shown = whinchat("push", a_run, REPO, "--base", BASE, "--dry-run").out
    assert all(file["path"] in shown for file in pushed["files"])
    record = RunFolder(a_run).read()
    assert record.reliability is not None
    quoted = len(record.samples) + len(record.reliability.errors) + len(record.manifest.data_report["examples"])
    assert f"they quote {quoted} texts of the data" in shown
    assert logged_in.asked == []


def test_a_language_that_the_hub_rejects_is_found_before_the_hub_is_asked(
    whinchat: Whinchat, logged_in: Hub, a_run: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(a_run, tmp_path / "run")
    recipe = run / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("language: en", "language: Tweetish"), encoding="utf-8")
    result = whinchat("push", run, REPO, "--base", BASE, "--yes")
    assert result.code == 2
    assert f"{recipe}: task.language: is no language code" in result.err
    assert "'Tweetish'" in result.err
    assert logged_in.asked == []


def test_a_run_with_a_missing_figure_is_not_pushed(
    whinchat: Whinchat, logged_in: Hub, a_run: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(a_run, tmp_path / "run")
    (run / "figures" / "per_label.png").unlink()
    result = whinchat("push", run, REPO, "--base", BASE, "--yes")
    assert f"{run}/figures/per_label.png: is missing, and the card shows it" in result.err
    assert logged_in.asked == []


def test_the_base_model_must_be_on_the_hub(whinchat: Whinchat, logged_in: Hub, a_run: Path) -> None:
    result = whinchat("push", a_run, REPO, "--yes")
    assert (
        "a local folder that nobody else has; if the hub has the same model, name it with --base OWNER/NAME"
        in result.err
    )
    assert "is not the name of a base model" in whinchat("push", a_run, REPO, "--base", "../tiny", "--yes").err
    assert logged_in.asked == []


def test_an_unfinished_run_is_not_pushed(whinchat: Whinchat, logged_in: Hub, a_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(a_run, tmp_path / "run")
    (run / "manifest.json").unlink()
    assert "manifest.json: missing, so this run is not finished" in whinchat("push", run, REPO, "--base", BASE).err
    assert logged_in.asked == []


def test_a_mistyped_path_sends_no_request(
    whinchat: Whinchat, logged_in: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    assert "runs/dmeo: no such run folder" in whinchat("predict", "runs/dmeo", "a text").err
    assert logged_in.asked == []


def test_predict_and_export_take_a_run_from_the_hub(
    whinchat: Whinchat, logged_in: Hub, a_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert whinchat("push", a_run, REPO, "--base", BASE, "--yes").code == 0
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts.csv").write_text(
        "text\n" + "\n".join(tiny_models.toy_rows(60, seed=8)[0]) + "\n", encoding="utf-8"
    )
    revision = logged_in.repositories[REPO].main
    for run in (REPO, f"{REPO}@{revision}"):
        assert whinchat("predict", run, "texts.csv", "--out", "labelled.csv", "--overwrite").code == 0
    exported = whinchat("export", REPO, "--to", "merged", "--data", "texts.csv")
    assert exported.code == 0, exported.err
    assert (tmp_path / "small-words-merged" / "proof.json").is_file()


def test_a_pushed_run_with_questions_answers_from_the_hub(
    whinchat: Whinchat, logged_in: Hub, tiny_llama: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(tiny_questions.finished_run(tiny_llama), tmp_path / "run")
    RunFolder(run).report.unlink()
    assert whinchat("report", run, "--json").code == 0
    assert RunFolder(run).report.is_file()
    done = whinchat("push", run, REPO, "--base", BASE, "--yes", "--json")
    assert done.code == 0, done.err
    files = pushed_files(logged_in)
    assert not [path for path in files if path.startswith("questions/")]
    assert not [path for path, content in files.items() if str(tiny_llama.parent).encode() in content]
    texts = ["rain\n\ngood day", "tea\n\nbad train day"]
    pushed = QuestionPredictor.load(REPO).predict(texts, deterministic=True)
    assert pushed.to_dict(1) == QuestionPredictor.load(run).predict(texts, deterministic=True).to_dict(1)
