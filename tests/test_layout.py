"""The source keeps to its own rules: one name a thing, imports at the top, light modules light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import whinchat

SOURCE = Path(whinchat.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
# Abbreviations that the libraries' own documentation uses.
ALIASES = {("numpy", "np"), ("torch.nn.functional", "F"), ("pyarrow", "pa"), ("pyarrow.parquet", "pq")}
HEAVY = {"torch", "numpy", "scipy", "sklearn", "pandas", "pyarrow", "transformers", "datasets", "matplotlib"}
# Modules that the command line loads before it knows what to do, or that only read a run folder.
LIGHT = (
    "whinchat",
    "whinchat.cli",
    "whinchat.cli.early_checks",
    "whinchat.evaluation.metric_registry",
    "whinchat.evaluation.results",
    "whinchat.inference.predict_file",
    "whinchat.recipe.loader",
    "whinchat.report.run_list",
    "whinchat.storage.questions_record",
    "whinchat.storage.run_folder",
    "whinchat.storage.run_record",
)


def parsed() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}


def test_a_module_name_occurs_once() -> None:
    places = defaultdict(list)
    for path in FILES:
        if path.name not in ("__init__.py", "__main__.py") and "cli" not in path.relative_to(SOURCE).parts:
            places[path.stem].append(str(path.relative_to(SOURCE)))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_a_class_or_function_name_stands_for_one_thing() -> None:
    places = defaultdict(list)
    for path, tree in parsed().items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith(
                "_"
            ):
                places[node.name].append(str(path.relative_to(SOURCE)))
    # The command line names its functions after its commands.
    outside = {name: [place for place in found if not place.startswith("cli/")] for name, found in places.items()}
    assert {name: found for name, found in outside.items() if len(found) > 1} == {}


def test_imports_keep_their_names() -> None:
    aliases = {
        f"{path.relative_to(SOURCE)}: {alias.name} as {alias.asname}"
        for path, tree in parsed().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
        if alias.asname is not None
        and (f"{node.module}.{alias.name}" if isinstance(node, ast.ImportFrom) else alias.name, alias.asname)
        not in ALIASES | {("torch.nn.functional", "F")}
    }
    assert aliases == set()


def test_imports_stand_at_the_top_or_give_their_reason() -> None:
    inner, unexplained = [], []
    for path, tree in parsed().items():
        lines = path.read_text(encoding="utf-8").splitlines()
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        found = {
            node.lineno
            for function in functions
            for node in ast.walk(function)
            if isinstance(node, ast.Import | ast.ImportFrom)
        }
        for number in sorted(found):
            place = f"{path.relative_to(SOURCE)}:{number}"
            inner.append(place)
            # A comment on the line, or one above the first import of a block.
            first = number
            while first - 1 in found:
                first -= 1
            if "#" not in lines[number - 1] and not lines[first - 2].strip().startswith("#"):
                unexplained.append(place)
    count = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in FILES)
    assert unexplained == []
    assert len(inner) <= 2 * count / 1000, inner


def test_light_modules_stay_light() -> None:
    lines = [
        "import sys",
        *(f"import {module}; print({module!r}, *({HEAVY!r} & set(sys.modules)))" for module in LIGHT),
    ]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
    assert [line.strip() for line in done.stdout.splitlines()] == list(LIGHT)


def test_every_module_says_what_it_holds() -> None:
    assert [str(path.relative_to(SOURCE)) for path, tree in parsed().items() if not ast.get_docstring(tree)] == []


def test_no_file_is_too_long_to_read() -> None:
    lengths = {str(path.relative_to(SOURCE)): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {name: length for name, length in lengths.items() if length > 400} == {}


def test_no_test_module_imports_from_another() -> None:
    tests = Path(__file__).parent
    imports = [
        f"{path.relative_to(tests)}: {node.module}"
        for path in sorted(tests.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").startswith("tests."))
        if node.level or not (node.module or "").startswith("tests.helpers")
    ]
    assert imports == []


def test_tests_stand_in_the_order_of_the_source() -> None:
    tests, elsewhere = Path(__file__).parent, {"helpers", "benchmarks", "examples", "docs", "fuzz", "gpu"}
    folders = {path.name for path in tests.iterdir() if path.is_dir() and not path.name.startswith(("_", "."))}
    packages = {path.name for path in SOURCE.iterdir() if path.is_dir()} | {path.stem for path in SOURCE.glob("*.py")}
    assert folders - elsewhere <= packages
