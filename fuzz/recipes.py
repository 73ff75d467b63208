"""Recipes: damaged YAML, odd values at every key, overrides. A recipe that is taken is written and read as the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

from fuzz.areas import Check, FuzzArea
from fuzz.odd_values import damaged, odd_value
from whinchat.recipe.loader import RECIPES, SettingsFile, recipe_to_yaml
from whinchat.recipe.schema import Recipe

_SHIPPED = {name: RECIPES.text(name) for name in RECIPES.names()}
_PIECES = (
    b": ", b"- ", b"&a ", b"*a", b"<<: *a\n", b"!!python/object:os.system ", b"!!binary ", b"? ", b"|\n", b">\n",
    b"\t", b"\n",
    b"  ", b"---\n", b"...\n", b"#", b"{", b"}", b"[", b"]", b'"', b"'", b"\\", b"%YAML 9.9\n", b"yes", b".inf",
    b".nan", b"0o17",
    b"1:30", b"2026-01-01", b"\xff", b"\x00", b"\xef\xbb\xbf", b"name: x\n", b"labels: [a, a]\n", b"task:\n",
)  # fmt: skip


def _keys(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _keys(value, f"{prefix}{key}.")


_KEYS = sorted({key for text in _SHIPPED.values() for key in _keys(yaml.safe_load(text))})
_whole = st.sampled_from(sorted(text.encode() for text in _SHIPPED.values()))
_override = st.one_of(
    st.builds(lambda key, value: f"{key}={json.dumps(value)}", st.sampled_from(_KEYS), odd_value),
    st.builds(lambda key, value: f"{key}={value}", st.sampled_from(_KEYS), st.text(max_size=12)),
    st.text(max_size=20),
)


@contextmanager
def _open(folder: Path) -> Iterator[Check]:
    def check(case: tuple[bytes, list[str]]) -> None:
        content, overrides = case
        text = content.decode("utf-8", "replace")
        recipe = SettingsFile.read("case.yaml", text, "a recipe is a mapping").checked(Recipe, "recipe", overrides)
        written = recipe_to_yaml(recipe)
        again = SettingsFile.read("again.yaml", written, "a recipe is a mapping").checked(Recipe, "recipe")
        assert again == recipe, "the recipe is read as another than it was written"

    yield check


RECIPE_AREA = FuzzArea(
    "recipes",
    st.tuples(st.one_of(_whole, damaged(_whole, _PIECES)), st.lists(_override, max_size=3)),
    _open,
    share=0.1,
)
