"""Compare a recipe with the settings of the publication that it repeats."""

import re
from dataclasses import dataclass
from typing import Any

from whinchat.recipe.schema import Recipe

_CLAIM = re.compile(r"[-_,; ]*\bas[-_ ]published\b", re.IGNORECASE)


@dataclass(frozen=True)
class Departure:
    """A recipe key whose value is not the published one."""

    key: str
    published: Any
    value: Any


def departures(recipe: Recipe) -> tuple[Departure, ...]:
    """Return the keys of ``reference.settings`` that have another value in ``recipe``."""
    settings = {} if recipe.reference is None else recipe.reference.settings
    values = {key: _value(recipe, key) for key in settings}
    return tuple(
        Departure(key, published, values[key]) for key, published in settings.items() if values[key] != published
    )


def without_claim(recipe: Recipe) -> Recipe:
    """Return ``recipe`` without its description and without "as published" in its name."""
    return recipe.model_copy(update={"description": "", "name": name_without_claim(recipe.name)})


def name_without_claim(name: str) -> str:
    """Return the name of a recipe or run without "as published"."""
    return _CLAIM.sub("", name) or "recipe"


def _value(recipe: Recipe, key: str) -> Any:
    section, _, name = key.partition(".")
    return getattr(getattr(recipe, section), name)
