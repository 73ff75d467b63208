"""The Colab notebook is valid, and each command in it exists."""

from __future__ import annotations

import ast
import builtins
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.cli_commands import find_command
from whinchat.recipe.loader import RECIPES

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "examples" / "colab" / "published_recipes.ipynb"
# The recipes that the notebook is for.
PUBLISHED = ("lite-oute-dora-as-published", "tinyllama-qlora-as-published")
# A line for the shell or for IPython.
_MAGIC = re.compile(r"^(\s*)([!%])(.*)$", re.MULTILINE)


@pytest.fixture(scope="module")
def notebook() -> dict[str, Any]:
    read: dict[str, Any] = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    return read


def sources(notebook: dict[str, Any], kind: str = "code") -> list[str]:
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == kind]


def shell_lines(notebook: dict[str, Any]) -> list[list[str]]:
    calls = [call for source in sources(notebook) for _, mark, call in _MAGIC.findall(source) if mark == "!"]
    return [shlex.split(call) for call in calls]


def test_the_notebook_is_valid_and_holds_no_outputs(notebook: dict[str, Any]) -> None:
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in notebook["cells"]:
        assert cell.keys() >= {"id", "cell_type", "metadata", "source"}
        assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", cell["id"])
        assert cell["cell_type"] in {"code", "markdown"}
        assert all(line.endswith("\n") for line in cell["source"][:-1])
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
        else:
            assert cell.keys() == {"id", "cell_type", "metadata", "source"}


def test_the_cells_are_python_that_uses_only_what_is_defined_above(notebook: dict[str, Any]) -> None:
    known = set(dir(builtins))
    for source in sources(notebook):
        nodes = list(ast.walk(ast.parse(_MAGIC.sub(r"\1pass", source))))
        known |= {alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names}
        names = [node for node in nodes if isinstance(node, ast.Name)]
        known |= {name.id for name in names if isinstance(name.ctx, ast.Store)}
        assert {name.id for name in names} <= known, source


def test_every_whinchat_command_exists(notebook: dict[str, Any]) -> None:
    calls = [words[1:] for words in shell_lines(notebook) if words[0] == "whinchat"]
    assert len(calls) >= 4
    for arguments in calls:
        found = find_command(arguments)
        assert found is not None, arguments
        command, rest = found
        options = {word for word in rest if word.startswith("-")}
        assert options <= {name for one in command.params for name in one.opts}, arguments
    runs = [arguments for arguments in calls if arguments[0] == "run"]
    assert tuple(arguments[1] for arguments in runs) == PUBLISHED
    assert set(PUBLISHED) <= set(RECIPES.names())


def test_files_that_are_shown_are_those_that_the_runs_write(notebook: dict[str, Any]) -> None:
    text = "\n".join(sources(notebook))
    folders = {f"runs/{name}" for name in PUBLISHED}
    assert set(re.findall(r"--out (\S+)", text)) == folders
    shown = set(re.findall(r'Path\("(runs/[^"]+)/(README\.md|report\.html)"\)', text))
    assert {folder for folder, _ in shown} == folders
    assert 'Path("benchmarks/results/gpu.md")' in text


def test_the_other_programs_exist(notebook: dict[str, Any]) -> None:
    lines = shell_lines(notebook)
    modules = [words[2] for words in lines if words[:2] == ["python", "-m"]]
    assert modules == ["pytest", "benchmarks.gpu"]
    assert (ROOT / "benchmarks" / "gpu.py").is_file()
    assert (ROOT / "tests" / "gpu").is_dir()
    assert {words[0] for words in lines} == {"git", "whinchat", "python"}
    installed = re.search(r"%pip install (.*)", "\n".join(sources(notebook)))
    assert installed is not None
    assert "-c constraints.txt" in installed[1]
    text = "\n".join(sources(notebook, "markdown"))
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    named = re.findall(r"`make ([a-z-]+)`", text)
    assert sorted(named) == ["bench-gpu", "test-gpu"]
    assert set(named) <= set(targets)
