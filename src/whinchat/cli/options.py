"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from whinchat.cli import recipes
from whinchat.errors import WhinchatError

Engine = Literal["local", "ray"]
RecipeArg = Annotated[
    str,
    typer.Argument(
        help="A shipped recipe, a YAML file, or a run folder.", metavar="RECIPE", autocompletion=recipes.names
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key, such as train.learning_rate=3e-4. Repeatable."),
]
OutOption = Annotated[Path | None, typer.Option("--out", "-o", help="Run folder; runs/NAME by default.")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on with the run that is there.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Delete the run that is there and start again.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]
ClassifierArg = Annotated[
    Path, typer.Argument(help="A run folder, an adapter's folder, or OWNER/NAME on the hub.", metavar="RUN")
]
RunArg = Annotated[Path, typer.Argument(help="A run folder.", metavar="RUN")]


def existing(resume: bool, overwrite: bool) -> Any:
    if resume and overwrite:
        raise WhinchatError("--resume and --overwrite: choose one; they ask for opposite things")
    return "resume" if resume else "overwrite" if overwrite else "refuse"
