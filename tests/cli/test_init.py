"""``whinchat init``: from a table to a recipe that runs, without loading a model."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.command_line import Whinchat
from whinchat.pipelines.run import run
from whinchat.recipe.loader import load_recipe


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    labels = ("late", "lost: really", "no")
    rows = [f"title {row},where is my parcel number {row},{labels[row % 3]}" for row in range(24)]
    path = Path("my tickets.csv")
    path.write_text("\n".join(["subject line,message,team", *rows]) + "\n", encoding="utf-8")
    return path


def test_what_is_printed(whinchat: Whinchat, table: Path) -> None:
    result = whinchat("init", table)
    assert result.code == 0, result.err
    assert result.out.startswith("24 rows with 3 labels, texts from 'message', labels from 'team'\n")
    assert "lost: really" in result.out
    assert result.out.endswith(
        "Wrote my-tickets.yaml. Read it, change it, and then type:\n"
        "  whinchat recipes check my-tickets.yaml\n  whinchat run my-tickets.yaml\n"
    )
    again = whinchat("init", table)
    assert (again.code, again.out) == (2, "")
    assert "my-tickets.yaml: already exists; replace it with --overwrite" in again.err
    told = json.loads(whinchat("init", table, "--overwrite", "--text", "subject line", "--json").out)
    assert (told["text_column"], told["label_column"]) == ("subject line", "team")
    assert told["labels"] == {"late": 8, "lost: really": 8, "no": 8}
    assert whinchat("recipes", "check", "my-tickets.yaml").out.startswith("my-tickets.yaml: good; ")


def test_nothing_slow_is_imported(table: Path) -> None:
    script = (
        "import sys; sys.argv = ['whinchat', *{arguments!r}]\n"
        "from whinchat.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print('MODULES', *sys.modules)"
    )
    heavy = {"torch", "numpy", "transformers", "sklearn", "scipy", "pyarrow", "datasets", "pandas"}
    for arguments in (["init", str(table)], ["recipes", "check", "my-tickets.yaml"]):
        code = script.format(arguments=arguments)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
        assert heavy & set(done.stdout.split("MODULES")[1].split()) == set()


def test_labels_cannot_act_on_the_terminal(whinchat: Whinchat, table: Path) -> None:
    table.write_text(table.read_text(encoding="utf-8").replace(",no\n", ",n\x1b[31mo\n"), encoding="utf-8")
    result = whinchat("init", table)
    assert result.code == 2
    assert "\x1b" not in result.out + result.err
    assert "holds U+001B" in result.err


def test_a_terminal_is_asked(table: Path) -> None:
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "whinchat", "init", str(table)],
        stdin=follower, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    os.close(follower)
    os.write(leader, b"2\n")  # "subject line", behind "message", which is longer
    printed, asked = process.communicate(timeout=60)
    os.close(leader)
    assert process.returncode == 0, asked
    assert "Which column holds the texts?" in asked
    assert "Which column holds the labels?" not in asked  # there is only one
    assert load_recipe("my-tickets.yaml").data.text_column == "subject line"
    assert "texts from 'subject line'" in printed
    assert "the longest" not in printed


def test_the_recipe_of_a_tiny_table_runs(whinchat: Whinchat, table: Path, tiny_llama: Path) -> None:
    assert whinchat("init", table, "--yes", "--model", tiny_llama, "--out", "mine.yaml").code == 0
    record = run(load_recipe("mine.yaml", ["train.max_steps=2", "evaluate.bootstrap_resamples=100"]), Path("run"))
    assert record.after.split == "test"
    assert {name: facts.rows for name, facts in record.manifest.splits.items()} == {
        "train": 20, "validation": 2, "test": 2,
    }  # fmt: skip
