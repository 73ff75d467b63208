"""``whinchat recipes``: list, show and check recipes."""

from __future__ import annotations

from typing import Annotated

import typer
from typer import Option

import whinchat
from whinchat.cli.options import JsonOption, RecipeArg, SetOption
from whinchat.cli.output import print_line, print_result, print_shipped
from whinchat.cli.printing.inspection import print_check
from whinchat.errors import RecipeError
from whinchat.recipe.loader import RECIPES, recipe_to_yaml

app = typer.Typer(help="List, show and check recipes.", no_args_is_help=True)


@app.command("list")
def list_recipes(as_json: JsonOption = False) -> None:
    """List the recipes that come with whinchat.

    Example:

        whinchat recipes list
    """
    print_shipped(whinchat.list_recipes(), as_json)


@app.command("show")
def show_recipe(
    recipe: RecipeArg,
    overrides: SetOption = None,
    resolved: Annotated[
        bool, Option("--resolved", help="Print every key with its value, defaults included, without comments.")
    ] = False,
) -> None:
    """Print a recipe, to read it or to start your own from it.

    Examples:

        whinchat recipes show demo > mine.yaml

        whinchat recipes show demo --resolved --set train.learning_rate=3e-4
    """
    text = (
        recipe_to_yaml(whinchat.load_recipe(recipe, overrides or ())) if resolved or overrides else RECIPES.text(recipe)
    )
    print_line(text.rstrip())


@app.command("check")
def check_recipe(
    recipe: RecipeArg,
    overrides: SetOption = None,
    no_data: Annotated[bool, Option("--no-data", help="Check the recipe alone, and do not open its data.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Check a recipe and its data without a model: print everything that is wrong, and exit with code 2 for an error.

    Data on the Hugging Face hub, and packages that are not downloaded yet, are not opened.

    Examples:

        whinchat recipes check mine.yaml

        whinchat recipes check mine.yaml --json
    """
    check = whinchat.check_recipe(recipe, overrides or (), open_data=not no_data)
    content = {
        "recipe": recipe,
        "errors": list(check.errors),
        "warnings": list(check.warnings),
        "not_checked": list(check.not_checked),
        "labels": check.labels,
    }
    print_result(as_json, content, lambda: print_check(check, recipe))
    if check.errors and as_json:
        raise typer.Exit(RecipeError.exit_code)
    if check.errors:
        raise RecipeError(*check.errors)
