"""The contestants; only the process of a trial imports the module of its contestant, with its libraries."""

from whinchat.arena.contestant_registry import find_kind, import_contestant
from whinchat.arena.contestants.contestant import Contestant
from whinchat.arena.spec import Method
from whinchat.recipe.schema import Recipe

__all__ = ["Contestant", "make_contestant"]


def make_contestant(method: Method, recipe: Recipe) -> Contestant:
    """Return the contestant of ``method``, not yet loaded.

    Raises:
        RecipeError: its class cannot be imported.
    """
    contestant: Contestant = import_contestant(find_kind(method.kind).target)(method, recipe)
    return contestant
