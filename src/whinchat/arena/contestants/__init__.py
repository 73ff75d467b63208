"""The contestants, one file a kind; each is imported by its own cell alone, so that no other pays for its libraries."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from whinchat.arena.contestants.contestant import Contestant
from whinchat.arena.spec import ContestantKind, Method
from whinchat.recipe.schema import Recipe

_PLACES: dict[ContestantKind, tuple[str, str]] = {
    "majority": ("baselines", "Majority"),
    "tfidf": ("baselines", "TfIdf"),
    "minilm": ("minilm", "MiniLM"),
    "prompting": ("prompting", "Prompting"),
    "head": ("head_tuning", "HeadTuning"),
    "adapter": ("adapter_tuning", "AdapterTuning"),
    "full": ("full_tuning", "FullTuning"),
}


def make_contestant(method: Method, recipe: Recipe) -> Contestant:
    """The contestant of ``method``, not yet loaded."""
    module, name = _PLACES[method.kind]
    kind: Any = getattr(import_module(f"{__name__}.{module}"), name)
    made: Contestant = kind(method, recipe)
    return made
