"""Commands that the documentation shows exist, with every option they are shown with."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from types import ModuleType

import pytest

from tests.helpers.cli_commands import find_command, program
from whinchat.recipe.loader import RECIPES
from whinchat.recipe.schema import Recipe

# A fenced block with its language, an indented one, or code within a line.
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_SHELLS = {"", "bash", "console", "text", "dockerfile"}
_INDENTED = re.compile(r"^(?: {4}\S.*\n?)+", re.MULTILINE)
_INLINE = re.compile(r"`([^`\n]+)`")
_START = re.compile(r"(?:^|[\s/|&(;$])(?:-m )?whinchat ((?:(?!&&|[|;>#]).)+)")
_RECIPE_KEY = re.compile(r"(?<![\w.])(task|data|backbone|adapter|train|evaluate)\.([a-z_]+)\b(?!\()")


def shown_commands(text: str) -> list[list[str]]:
    """Return the arguments of each ``whinchat`` call in the code of a Markdown text."""
    fences = [code for language, code in _FENCE.findall(text) if language in _SHELLS]
    rest = _FENCE.sub("", text)
    code = "\n".join([*fences, *_INDENTED.findall(rest), *_INLINE.findall(_INDENTED.sub("", rest))])
    calls = []
    for line in code.replace("\\\n", " ").splitlines():
        for call in _START.findall(line.partition(" # ")[0]):
            try:
                calls.append(shlex.split(call))
            except ValueError:  # a quotation that ends on another line
                calls.append(call.split())
    return calls


def test_shown_commands_and_options_exist(documents: list[Path], root: Path) -> None:
    wrong = []
    for document in documents:
        for arguments in shown_commands(document.read_text(encoding="utf-8")):
            try:
                found = find_command(arguments)
            except AssertionError as fault:
                wrong.append(f"{document.relative_to(root)}: {fault}")
                continue
            if found is None:
                continue
            command, rest = found
            known = {"--help", "-h"} | {name for one in command.params for name in one.opts}
            options = [word.partition("=")[0] for word in rest if re.match(r"--?[a-z]", word)]
            wrong += [
                f"{document.relative_to(root)}: `whinchat {' '.join(arguments)}`: no option {option}"
                for option in options
                if option not in known
            ]
    assert not wrong, "\n".join(wrong)


def test_shown_recipes_exist(documents: list[Path], root: Path) -> None:
    wrong = []
    for document in documents:
        for arguments in shown_commands(document.read_text(encoding="utf-8")):
            if arguments[0] not in {"run", "train", "inspect", "review"} or len(arguments) < 2:
                continue
            name = arguments[1]
            if re.fullmatch(r"[a-z][a-z0-9-]*", name) and name not in RECIPES.names():
                wrong.append(f"{document.relative_to(root)}: no recipe {name}")
    assert not wrong, "\n".join(wrong)


def test_shown_recipe_keys_exist(documents: list[Path], root: Path) -> None:
    sections = {name: field.annotation for name, field in Recipe.model_fields.items()}
    wrong = []
    for document in documents:
        text = document.read_text(encoding="utf-8")
        fences = [code for language, code in _FENCE.findall(text) if language in _SHELLS | {"yaml"}]
        for code in [*fences, *_INLINE.findall(_FENCE.sub("", text))]:
            for section, key in _RECIPE_KEY.findall(code):
                if key not in {"csv", "py", "yaml"} and key not in sections[section].model_fields:  # type: ignore[union-attr]  # these are sections
                    wrong.append(f"{document.relative_to(root)}: no key {section}.{key}")
    assert not wrong, "\n".join(wrong)


def test_shown_programs_and_targets_exist(documents: list[Path], root: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (root / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    wrong = []
    for document in documents:
        text = document.read_text(encoding="utf-8")
        for module in re.findall(r"python -m (benchmarks[.\w]*)", text):
            path = root / module.rstrip(".").replace(".", "/")
            if not path.with_suffix(".py").is_file() and not (path / "__main__.py").is_file():
                wrong.append(f"{document.relative_to(root)}: no program {module}")
        for script in re.findall(r"python ((?:docs|examples)/[\w/.-]+\.py)", text):
            if not (root / script).is_file():
                wrong.append(f"{document.relative_to(root)}: no program {script}")
        for target in re.findall(r"`make ([a-z-]+)`|^ {4}make ([a-z-]+)", text, re.MULTILINE):
            if "".join(target) not in targets:
                wrong.append(f"{document.relative_to(root)}: no target {''.join(target)}")
    assert not wrong, "\n".join(wrong)


def test_ci_runs_what_the_readme_names(root: Path) -> None:
    readme = (root / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^make \S+$", (root / ".ci" / "run").read_text(encoding="utf-8"), re.MULTILINE)
    assert commands
    assert all(command in readme for command in commands)


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        ("```bash\nwhinchat run demo --resume && ls\n```\n", [["run", "demo", "--resume"]]),
        ("Say `whinchat runs`.\n", [["runs"]]),
        ('    .venv/bin/whinchat predict RUN "a b" | head\n', [["predict", "RUN", "a b"]]),
        ("whinchat is a program.\n", []),
    ],
)
def test_calls_are_found(text: str, calls: list[list[str]]) -> None:
    assert shown_commands(text) == calls


def test_a_wrong_command_is_found() -> None:
    with pytest.raises(AssertionError, match="no command ran"):
        find_command(["ran", "demo"])


def test_the_command_line_page_lists_every_command(generate: ModuleType) -> None:
    names = {name for name, _ in generate.walk_commands(program())}
    assert {"run", "recipes show", "serve"} <= names
