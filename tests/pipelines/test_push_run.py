"""``push_run`` to a hub on this machine; ``whinchat push`` is tested in tests/cli/test_push.py."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard

from tests.helpers import tiny_questions
from tests.helpers.finished_runs import finished_run
from tests.helpers.hub_server import OWNER, Hub, in_this_process, serve
from whinchat.errors import HubError, RunError
from whinchat.pipelines.compare_runs import compare_runs
from whinchat.pipelines.push_run import push_run
from whinchat.report.question_notes import question_warnings
from whinchat.storage.run_folder import RunFolder

REPO, BASE = f"{OWNER}/small-words", "models/tiny-llama"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A local hub that this process is logged in to."""
    with serve() as hub:
        in_this_process(hub, tmp_path, monkeypatch)
        yield hub


@pytest.fixture
def run_path(tiny_llama: Path) -> Path:
    """A finished run, to be read only."""
    return finished_run(tiny_llama)


def test_a_push_uploads_what_its_result_lists(hub: Hub, run_path: Path) -> None:
    result = push_run(run_path, REPO, private=True, base_model=BASE, accept_bad_result=True)
    assert result.url == f"{hub.url}/{REPO}"
    repository = hub.repositories[REPO]
    assert repository.private is True
    assert repository.files == {file.path: file.read() for file in result.files}
    assert result.size == sum(map(len, repository.files.values()))
    assert result.to_dict()["files"][0] == {"path": result.files[0].path, "bytes": result.files[0].size}


def test_a_dry_run_lists_the_same_files_and_sends_no_request(hub: Hub, run_path: Path) -> None:
    result = push_run(str(run_path), REPO, base_model=BASE, dry_run=True)
    assert (result.url, hub.asked) == (None, [])
    assert {"adapter_model.safetensors", "README.md", "report.html"} <= {file.path for file in result.files}
    assert result.quoted_texts > 0


def test_texts_that_must_not_be_quoted_are_in_no_pushed_file(run_path: Path, tmp_path: Path) -> None:
    run = shutil.copytree(run_path, tmp_path / "run")
    texts = {sample.text for sample in RunFolder(run).read().samples}
    recipe = run / "recipe.yaml"
    content = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    content["publish"] |= {"samples": "none", "developers": "Ann Lee"}
    recipe.write_text(yaml.safe_dump(content), encoding="utf-8")
    result = push_run(run, REPO, base_model=BASE, dry_run=True)
    assert result.quoted_texts == 0
    files = {file.path: file.read() for file in result.files}
    assert not [name for name, content in files.items() if any(text.encode() in content for text in texts)]
    assert b"Developed by: Ann Lee" in files["README.md"]


def test_a_comparison_is_published_without_paths_of_this_machine(run_path: Path, tmp_path: Path) -> None:
    runs = [shutil.copytree(run_path, tmp_path / name) for name in ("lora", "dora")]
    compare_runs(runs, update_cards=True)
    pages = {file.path: file for file in push_run(runs[0], REPO, base_model=BASE, dry_run=True).files}
    assert "comparison.json" not in pages
    for name in ("README.md", "report.html"):
        text = pages[name].read().decode()
        assert "lora (this run)" in text
        assert str(run_path.parent.parent) not in text, "the folder of the base model"
        assert str(tmp_path) not in text


def test_a_run_with_questions_is_pushed_without_the_evidence_of_its_decisions(tiny_llama: Path) -> None:
    path = tiny_questions.finished_run(tiny_llama)
    result = push_run(path, REPO, base_model=BASE, dry_run=True)
    files = {file.path: file.read() for file in result.files}
    assert {"adapter_model.safetensors", "calibration.json", "questions.json", "README.md", "report.html"} <= set(files)
    assert {"figures/questions.png", "figures/question_mood.png"} <= set(files)
    assert not [name for name in files if name.startswith("questions/") or name.endswith(".parquet")]
    card = files["README.md"].decode()
    assert f"whinchat predict {REPO}" in card
    assert ModelCard(card).data.base_model == BASE
    for name in ("README.md", "report.html", "manifest.json", "recipe.yaml"):
        assert str(path.parent) not in files[name].decode()
    assert b"questions/mood/report.html" not in files["report.html"]
    with (path.parent / "table.csv").open(encoding="utf-8", newline="") as table:
        texts = [row["body"] for row in csv.DictReader(table)]
    quoted = [text for text in texts if any(text.encode() in content for content in files.values())]
    assert len(quoted) <= result.quoted_texts
    assert result.warnings == question_warnings(RunFolder(path).read_questions())


def test_a_token_can_be_passed(hub: Hub, run_path: Path) -> None:
    with pytest.raises(HubError, match="the hub does not accept the token"):
        push_run(run_path, REPO, base_model=BASE, token="hf_wrong", accept_bad_result=True)
    assert hub.repositories == {}


def test_a_folder_that_is_not_a_finished_run_is_not_pushed(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no such run folder"):
        push_run(tmp_path / "nothing", REPO)
    with pytest.raises(HubError, match="is not a repository name; write OWNER/NAME"):
        push_run(tmp_path / "nothing", "words")
    assert hub.asked == []
