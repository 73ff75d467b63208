"""Arguments and options that several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option

from whinchat.errors import RunError, WhinchatError
from whinchat.pipelines.output_folder import IfExists
from whinchat.recipe.loader import RECIPES


def complete_recipe(incomplete: str) -> list[str]:
    """Return the shipped recipes whose name starts with ``incomplete``, for tab completion."""
    return [name for name in RECIPES.names() if name.startswith(incomplete)]


def out_option(help_text: str, metavar: str = "FOLDER") -> Any:
    """Return the option ``--out``, which names where a command writes."""
    return Option("--out", "-o", metavar=metavar, help=help_text)


def set_option(help_text: str) -> Any:
    """Return the option ``--set``, which replaces a value of a file and can be repeated."""
    return Option("--set", metavar="KEY=VALUE", help=f"{help_text} Repeatable.")


_RECIPE_HELP = "A shipped recipe, a YAML file, or a run folder."
_CLASSIFIER_HELP = "A run folder, an adapter folder, or OWNER/NAME on the Hugging Face hub."
RecipeArg = Annotated[str, Argument(help=_RECIPE_HELP, metavar="RECIPE", autocompletion=complete_recipe)]
SetOption = Annotated[list[str] | None, set_option("Change a key of the recipe, as in train.learning_rate=3e-4.")]
OutOption = Annotated[
    Path | None, out_option("Run folder to write to.  [default: runs/NAME, of the recipe or its file]")
]
ResumeOption = Annotated[bool, Option("--resume", help="Continue the run in the folder.")]
OverwriteOption = Annotated[bool, Option("--overwrite", help="Delete the run in the folder and start again.")]
JsonOption = Annotated[bool, Option("--json", help="Print JSON instead of text.")]
ClassifierArg = Annotated[Path, Argument(help=_CLASSIFIER_HELP, metavar="RUN")]
RunArg = Annotated[Path, Argument(help="A run folder.", metavar="RUN")]


def run_folder_name(recipe: str, name: str) -> str:
    """Return the name of the folder in ``runs`` for a run of ``recipe``: that of its file, if it has one.

    So a copy of a shipped recipe does not write to the folder of the shipped one. The name of a file that is called
    ``recipe.yaml``, as in a run folder, tells nothing, so the name inside it counts. The same holds for arenas.

    Args:
        recipe: a shipped recipe, a YAML file, or a run folder, as on the command line.
        name: the name in the recipe.
    """
    path = Path(recipe)
    return path.stem if path.is_file() and path.name not in {"recipe.yaml", "arena.yaml"} else name


def parse_existing(resume: bool, overwrite: bool) -> IfExists:
    """Return what ``--resume`` and ``--overwrite`` ask for.

    Raises:
        WhinchatError: both are given.
    """
    if resume and overwrite:
        raise WhinchatError("--resume and --overwrite: exclude each other; choose one")
    return "resume" if resume else "overwrite" if overwrite else "refuse"


def parse_run_names(runs: Sequence[str]) -> dict[str, Path]:
    """Return the runs by name: ``NAME=RUN`` gives the name, and ``RUN`` alone is named after its folder.

    Raises:
        RunError: two runs have the same name.
    """
    paths: dict[str, Path] = {}
    for run in runs:
        name, equals, path = run.partition("=")
        folder = Path(path if equals else run)
        name = name if equals else folder.resolve().name
        if name in paths:
            raise RunError(f"{run}: {name!r} is already the name of {paths[name]}; give another: OTHER={folder}")
        paths[name] = folder
    return paths
