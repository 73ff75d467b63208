"""The names that ``import whinchat`` offers: loaded on demand, documented, and known to type checkers."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import whinchat

FUNCTIONS = [name for name in whinchat.__all__ if name.islower() and not name.startswith("_")]


def test_importing_whinchat_loads_nothing_heavy() -> None:
    script = "import sys, whinchat; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    heavy = {"torch", "numpy", "transformers", "pydantic", "typer", "rich"}
    assert heavy & set(done.stdout.split()) == set()


def test_what_a_command_does_is_a_public_function() -> None:
    expected = {
        "run", "train_run", "evaluate_run", "calibrate_run", "review_run", "predict_file", "compare_runs",
        "export_run", "push_run", "run_arena", "summarize_arena", "rebuild_report", "list_runs", "inspect_example",
        "inspect_machine", "inspect_model", "probe_layers", "run_server", "list_recipes", "list_arenas", "load_recipe",
        "load_arena", "bad_result_warnings", "check_recipe", "init_recipe", "inspect_questions", "load_predictor",
        "question_warnings", "distill_run", "remove_student", "tune_run",
    }  # fmt: skip
    assert set(FUNCTIONS) == expected


@pytest.mark.parametrize("name", [name for name in whinchat.__all__ if name != "__version__"])
def test_every_public_name_is_documented(name: str) -> None:
    value = getattr(whinchat, name)
    assert value.__name__ == name
    doc = inspect.getdoc(value)
    assert doc
    if name in FUNCTIONS and len(inspect.signature(value).parameters) > 1:
        assert "Args:" in doc


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(whinchat.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    imported = {(alias.name, node.module) for node in block.body for alias in node.names}  # type: ignore[attr-defined]
    assert imported == set(whinchat._MODULE_OF.items())
    assert {name for name, _ in imported} | {"__version__"} == set(whinchat.__all__)


def test_dir_lists_the_public_names_and_unknown_names_fail() -> None:
    assert set(whinchat.__all__) <= set(dir(whinchat))
    with pytest.raises(AttributeError, match="module 'whinchat' has no attribute 'nothing'"):
        whinchat.nothing  # noqa: B018  # looking the name up is what raises


def test_the_server_without_its_extra() -> None:
    script = "import sys; sys.modules['uvicorn'] = None; import whinchat; whinchat.run_server"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert "ImportError: whinchat.run_server: needs uvicorn; pip install 'whinchat[serve]'" in done.stderr
