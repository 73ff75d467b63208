"""``whinchat recipes``: list, show and check recipes."""

from __future__ import annotations

from typing import Annotated

import typer
from typer import Option

import whinchat
from whinchat.cli.options import JsonOption, RecipeArg, SetOption
from whinchat.cli.output import print_line, print_shipped
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
def check_recipe(recipe: RecipeArg, overrides: SetOption = None) -> None:
    """Check a recipe without running it: print every fault, and exit with code 2 if there is one.

    Example:

        whinchat recipes check mine.yaml
    """
    loaded = whinchat.load_recipe(recipe, overrides or ())
    print_line(f"{recipe}: good; {loaded.adapter.method} on {loaded.backbone.model}, data from {loaded.data.source}")
