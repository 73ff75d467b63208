"""Commands that begin a classifier from a table."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

import whinchat
from whinchat.cli.options import JsonOption, out_option
from whinchat.cli.output import print_result
from whinchat.cli.printing.first_recipe import ask_column, print_init
from whinchat.recipe.recipe_draft import BUNDLED_MODEL


def init_command(
    source: Annotated[
        str, Argument(help="A table, or a folder with train, validation and test tables.", metavar="SOURCE")
    ],
    text: Annotated[str | None, Option("--text", metavar="COLUMN", help="Column with the texts.")] = None,
    label: Annotated[str | None, Option("--label", metavar="COLUMN", help="Column with the labels.")] = None,
    model: Annotated[str, Option("--model", help="The chat model to adapt.")] = BUNDLED_MODEL,
    out_file: Annotated[Path | None, out_option("Recipe to write.  [default: NAME.yaml]", "FILE")] = None,
    overwrite: Annotated[bool, Option("--overwrite", help="Replace the recipe if there is one.")] = False,
    yes: Annotated[bool, Option("--yes", "-y", help="Ask nothing, and take the likeliest columns.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Look at a table, and write a recipe for it that can be run, with a comment for each choice.

    On a terminal, asks which columns hold the texts and the labels where --text and --label do not say so. Elsewhere,
    or with --yes, takes the likeliest columns, and ends with an error where several may hold the labels.

    Examples:

        whinchat init tickets.csv

        whinchat init tickets.csv --text message --label team --out mine.yaml
    """
    may_ask = sys.stdin.isatty() and not (yes or as_json)
    result = whinchat.init_recipe(
        source, out_file, text=text, label=label, model=model, overwrite=overwrite, ask=ask_column if may_ask else None
    )
    content = {
        "recipe": str(result.path),
        "text_column": result.text_column,
        "label_column": result.label_column,
        "labels": result.labels,
        "notes": list(result.notes),
        "warnings": list(result.check.warnings),
    }
    print_result(as_json, content, lambda: print_init(result))


COMMANDS = {"init": init_command}
