"""Code that comes with a model, an adapter, a tokenizer or a data set is never run, whoever says yes to it."""

from __future__ import annotations

import ast
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import finished_runs, tiny_models
from tests.helpers.command_line import Whinchat
from whinchat.models.adapters import attach_adapter, save_adapter
from whinchat.models.parameter_count import configured_model
from whinchat.recipe.model_config import AdapterConfig
from whinchat.storage.run_folder import RunFolder

ROOT = Path(__file__).parents[2]
# What can run code from a repository. ``GenerationConfig`` and whinchat's own class cannot, and take no such argument.
LOADERS = {"from_pretrained", "from_config", "pipeline", "load_dataset", "load_dataset_builder"}
HARMLESS = {"GenerationConfig", "Classifier"}
EVIL = """
from pathlib import Path
Path({marker!r}).write_text("code was run")
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
class EvilConfig(LlamaConfig):
    model_type = "evil"
class EvilModel(LlamaForCausalLM):
    config_class = EvilConfig
class EvilTokenizer(PreTrainedTokenizerFast):
    pass
"""


def loader_calls() -> Iterator[tuple[str, ast.Call]]:
    for folder in ("src", "benchmarks", "examples"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and (called := getattr(node.func, "attr", getattr(node.func, "id", ""))):
                    owner = getattr(getattr(node.func, "value", None), "id", "")
                    if called in LOADERS and owner not in HARMLESS:
                        yield f"{file.relative_to(ROOT)}:{node.lineno}", node


def test_every_loader_is_told_not_to_run_code() -> None:
    calls = list(loader_calls())
    assert len(calls) > 15
    for where, call in calls:
        values = [word.value for word in call.keywords if word.arg == "trust_remote_code"]
        assert [isinstance(value, ast.Constant) and value.value for value in values] == [False], where


@pytest.fixture
def evil_model(tiny_llama: Path, tmp_path: Path) -> Path:
    """A model folder whose configuration, model and tokenizer come with code, which leaves a file where it runs."""
    folder = tmp_path / "evil-model"
    shutil.copytree(tiny_llama, folder)
    (folder / "evil.py").write_text(EVIL.format(marker=str(tmp_path / "marker")), encoding="utf-8")
    edits = {
        "config.json": {
            "model_type": "evil",
            "auto_map": {"AutoConfig": "evil.EvilConfig", "AutoModelForCausalLM": "evil.EvilModel"},
        },
        "tokenizer_config.json": {
            "tokenizer_class": "EvilTokenizer",
            "auto_map": {"AutoTokenizer": [None, "evil.EvilTokenizer"]},
        },
    }
    for name, fields in edits.items():
        content = json.loads((folder / name).read_text(encoding="utf-8"))
        (folder / name).write_text(json.dumps({**content, **fields}), encoding="utf-8")
    return folder


@pytest.fixture
def answering_yes(whinchat: Whinchat, monkeypatch: pytest.MonkeyPatch) -> Whinchat:
    """The command line with "y" on its standard input, as often as it asks."""
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 100))
    return whinchat


@pytest.mark.parametrize("kind", ["model", "adapter", "tokenizer", "merged"])
def test_yes_on_standard_input_runs_nothing(
    tiny_llama: Path, evil_model: Path, tmp_path: Path, answering_yes: Whinchat, kind: str
) -> None:
    if kind == "model":
        done = answering_yes("doctor", evil_model)
        assert configured_model(str(evil_model)) is None
    else:
        run = tmp_path / "run"
        recipe = finished_runs.recipe_for(tiny_llama, tmp_path / "texts.csv")
        tuned = attach_adapter(tiny_models.load(tiny_llama).model, AdapterConfig(r=4), seed=1)
        tiny_models.stir(tuned)
        save_adapter(tuned, run, str(evil_model))
        if kind == "adapter":
            recipe = finished_runs.recipe_for(evil_model, tmp_path / "texts.csv")
        elif kind == "tokenizer":
            for name in ("evil.py", "tokenizer_config.json"):
                shutil.copy(evil_model / name, run)
            shutil.copy(tiny_llama / "tokenizer.json", run)
        else:
            shutil.rmtree(run)
            shutil.copytree(evil_model, run)
        RunFolder(run).write_recipe(recipe)
        done = answering_yes("predict", run, "a day")
    assert not (tmp_path / "marker").exists()
    if kind == "tokenizer":  # its ids come from tokenizer.json alone
        assert done.code == 0, done.err
    else:
        assert done.code == 2
        assert "comes with its own Python code (trust_remote_code), which whinchat does not run" in done.err


def test_a_script_among_the_data_is_not_run(tiny_llama: Path, tmp_path: Path, answering_yes: Whinchat) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "data.py").write_text(EVIL.format(marker=str(tmp_path / "marker")), encoding="utf-8")
    for name in (folder, folder / "data.py"):
        recipe = finished_runs.recipe_for(tiny_llama, name)
        RunFolder(tmp_path).write_recipe(recipe)
        done = answering_yes("run", tmp_path / "recipe.yaml", "--out", tmp_path / "out")
        assert done.code == 2
    assert not (tmp_path / "marker").exists()
