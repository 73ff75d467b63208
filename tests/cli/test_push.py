"""``whinchat push`` through huggingface_hub's own client, to a hub on this machine and back again."""

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

from tests.helpers import tiny_models
from tests.helpers.command_line import Whinchat
from tests.helpers.hub_server import OWNER, TOKEN, Hub, Repository, in_this_process, serve
from whinchat.evaluation.generation import generate
from whinchat.inference.predictor import Predictor
from whinchat.storage.run_folder import RunFolder

REPO, BASE = f"{OWNER}/small-words", "models/tiny-llama"


@pytest.fixture
def hub(tiny_llama: Path) -> Iterator[Hub]:
    """A hub that has the base model."""
    with serve() as hub:
        model = Repository()
        model.add({one.name: one.read_bytes() for one in tiny_llama.iterdir()})
        hub.repositories[BASE] = model
        yield hub


@pytest.fixture
def logged_in(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """The same, known to this process."""
    in_this_process(hub, tmp_path, monkeypatch)
    return hub


def process(
    hub: Hub, home: Path, *arguments: str | Path, token: str | None = TOKEN
) -> subprocess.CompletedProcess[str]:
    """A fresh Python that knows this hub, in a folder of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    paths = os.pathsep.join(str(Path(one).resolve()) for one in sys.path if one)
    home.mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env={**kept, "PYTHONPATH": paths, "COLUMNS": "200", **hub.environment(home, token)},
        cwd=home,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def pushed(hub: Hub) -> dict[str, bytes]:
    return hub.repositories[REPO].files


def test_there_and_back(hub: Hub, a_run: Path, tmp_path: Path) -> None:
    done = process(hub, tmp_path / "ann", "-m", "whinchat", "push", a_run, REPO, "--base", BASE, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["url"] == f"{hub.url}/{REPO}"
    files = pushed(hub)
    assert sorted(files) == sorted(one["path"] for one in told["files"])
    assert sum(map(len, files.values())) == told["bytes"]
    assert {"adapter_model.safetensors", "calibration.json", "recipe.yaml", "README.md", "report.html"} <= set(files)
    assert not any(path.endswith(".parquet") for path in files)
    # One commit after the empty one; nothing of this machine in it; the token nowhere.
    assert len(hub.repositories[REPO].commits) == 2
    assert hub.repositories[REPO].private is False
    for path, content in files.items():
        for secret in (str(a_run.parent.parent), TOKEN):
            assert secret.encode() not in content, path
    assert TOKEN not in done.stdout + done.stderr
    assert not any(TOKEN in one.read_text(errors="ignore") for one in (tmp_path / "ann").rglob("*") if one.is_file())
    # The card's figures are there, and its names are the repository's.
    card = files["README.md"].decode()
    shown = re.findall(r"!\[.*?\]\((figures/\w+\.png)\)", card)
    assert len(shown) >= 4
    assert set(shown) <= set(files)
    assert f'whinchat predict {REPO} "text"' in card
    assert f'base, adapter = "{BASE}", "{REPO}"' in card
    assert f"base_model: {BASE}" in card

    # Somebody else: no token, an empty cache, no folder of ours.
    texts = list(tiny_models.toy_rows(8, seed=5)[0])
    bob = tmp_path / "bob"
    used = process(hub, bob, "-m", "whinchat", "predict", REPO, *texts, "--json", token=None)
    assert used.returncode == 0, used.stderr
    predictor = Predictor.load(a_run)
    expected = predictor.predict(texts)
    lines = [json.loads(line) for line in used.stdout.splitlines()]
    shares = np.array([list(line["probabilities"].values()) for line in lines])
    np.testing.assert_allclose(shares, expected.probabilities, atol=1e-6)
    assert [line["label"] for line in lines] == expected.label_names

    # And without whinchat, by the code on the card.
    code = re.findall(r"```python\n(.*?)```", card, re.DOTALL)[0]
    (bob / "use.py").write_text(code.replace('text = "..."', f"text = {texts[0]!r}"), encoding="utf-8")
    plain = process(hub, bob, "use.py", token=None)
    assert plain.returncode == 0, plain.stderr
    engine = predictor.engine
    longest = predictor.recipe.evaluate.max_new_tokens
    assert plain.stdout.strip() == generate(engine, engine.template.encode(texts[:1]), longest, 1)[0].strip()


def test_dry_run_asks_nobody(whinchat: Whinchat, logged_in: Hub, a_run: Path) -> None:
    said = whinchat("push", a_run, REPO, "--base", BASE, "--dry-run", "--json")
    assert said.code == 0
    told = json.loads(said.out)
    assert told["url"] is None
    assert {"adapter_model.safetensors", "README.md", "figures/per_label.png"} <= {one["path"] for one in told["files"]}
    assert told["bytes"] == sum(one["bytes"] for one in told["files"]) > 0
    shown = whinchat("push", a_run, REPO, "--base", BASE, "--dry-run").out
    assert all(one["path"] in shown for one in told["files"])
    record = RunFolder(a_run).read()
    assert record.reliability is not None
    quoted = len(record.samples) + len(record.reliability.errors) + len(record.manifest.data_report["examples"])
    assert f"they quote {quoted} texts of the data" in shown
    assert logged_in.asked == []


def test_a_card_that_does_not_validate_stays(whinchat: Whinchat, logged_in: Hub, a_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(a_run, tmp_path / "run")
    recipe = run / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("language: en", "language: Tweetish"), encoding="utf-8")
    said = whinchat("push", run, REPO, "--base", BASE)
    assert said.code == 2
    assert f"{REPO}: not pushed: the hub rejects the metadata of the card" in said.err
    assert "'Tweetish'" in said.err
    assert REPO not in logged_in.repositories


def test_a_card_without_its_figures_stays(whinchat: Whinchat, logged_in: Hub, a_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(a_run, tmp_path / "run")
    (run / "figures" / "per_label.png").unlink()
    said = whinchat("push", run, REPO, "--base", BASE)
    assert f"{run}/figures/per_label.png: is missing, and the card shows it" in said.err
    assert logged_in.asked == []


def test_the_base_model_must_be_one_that_others_have(whinchat: Whinchat, logged_in: Hub, a_run: Path) -> None:
    said = whinchat("push", a_run, REPO)
    assert (
        "a local folder that nobody else has; if the hub has the same model, name it with --base OWNER/NAME" in said.err
    )
    assert "is not the name of a base model" in whinchat("push", a_run, REPO, "--base", "../tiny").err
    assert logged_in.asked == []


def test_an_unfinished_run_stays(whinchat: Whinchat, logged_in: Hub, a_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(a_run, tmp_path / "run")
    (run / "manifest.json").unlink()
    assert "manifest.json: missing, so this run is not finished" in whinchat("push", run, REPO, "--base", BASE).err
    assert logged_in.asked == []


def test_a_slip_in_a_path_asks_nobody(
    whinchat: Whinchat, logged_in: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    assert "runs/dmeo: no such run folder" in whinchat("predict", "runs/dmeo", "a text").err
    assert logged_in.asked == []


def test_a_classifier_of_the_hub_is_one_everywhere(
    whinchat: Whinchat, logged_in: Hub, a_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert whinchat("push", a_run, REPO, "--base", BASE).code == 0
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
