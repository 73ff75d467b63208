"""``whinchat recipes``: list, show and check."""

from __future__ import annotations

from typing import Annotated

import typer

from whinchat.cli.output import out, print_shipped
from whinchat.recipe.loader import RECIPES, load_recipe, recipe_to_yaml

app = typer.Typer(help="List, show and check recipes.", no_args_is_help=True)


def names(incomplete: str) -> list[str]:
    """Shipped recipes that begin so, for tab completion."""
    return [name for name in RECIPES.names() if name.startswith(incomplete)]


Recipe = Annotated[str, typer.Argument(help="A shipped recipe or a YAML file.", autocompletion=names)]
SetOption = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key. Repeatable.")]


@app.command("list")
def list_recipes(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the recipes that come with whinchat."""
    print_shipped({name: load_recipe(name).description for name in RECIPES.names()}, as_json)


@app.command()
def show(
    recipe: Recipe,
    overrides: SetOption = None,
    resolved: Annotated[bool, typer.Option("--resolved", help="Spell out every default; drop comments.")] = False,
) -> None:
    """Print a recipe, to read or to start your own from.

    Examples:

        whinchat recipes show demo > mine.yaml

        whinchat recipes show demo --resolved --set train.learning_rate=3e-4
    """
    text = recipe_to_yaml(load_recipe(recipe, overrides or ())) if resolved or overrides else RECIPES.text(recipe)
    out.print(text.rstrip(), markup=False, soft_wrap=True)


@app.command()
def check(recipe: Recipe, overrides: SetOption = None) -> None:
    """Check a recipe without running it: every fault at once, exit code 2 if there is any.

    Example:

        whinchat recipes check mine.yaml
    """
    chosen = load_recipe(recipe, overrides or ())
    out.print(
        f"{recipe}: good; {chosen.adapter.method} on {chosen.backbone.model}, data from {chosen.data.source}",
        soft_wrap=True,
        markup=False,
    )
