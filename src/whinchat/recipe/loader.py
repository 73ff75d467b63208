"""Recipes in and out: YAML, dotted overrides, and every fault at once."""

from __future__ import annotations

import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from whinchat.errors import RecipeError, nearest
from whinchat.recipe.presets import PresetRegistry
from whinchat.recipe.schema import Recipe

RECIPES = PresetRegistry("a recipe", "whinchat recipes list")


def read_mapping(name: str, text: str, wanted: str) -> dict[str, Any]:
    """The mapping that the YAML ``text`` of ``name`` holds; ``wanted`` says what it should have been.

    Raises:
        RecipeError: not YAML, or not a mapping.
    """
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as fault:
        raise RecipeError(f"{name}: not valid YAML: {' '.join(str(fault).split())}") from None
    if not isinstance(raw, dict):
        raise RecipeError(f"{name}: holds {_kind(raw)}; {wanted}")
    return raw


def load_recipe(name_or_path: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe by shipped name, file or run folder, and apply overrides such as ``train.learning_rate=3e-4``.

    Raises:
        RecipeError: lists every unknown key, wrong type and out-of-range value, one a line, each with its path.
    """
    raw = read_mapping(name_or_path, RECIPES.text(name_or_path), "a recipe is a mapping with task, data, backbone, ...")
    for override in overrides:
        _apply(raw, override)
    try:
        return Recipe.model_validate(raw)
    except ValidationError as faults:
        raise RecipeError(explain_faults(name_or_path, faults, Recipe, "recipe")) from None


def recipe_to_yaml(recipe: Recipe) -> str:
    """The whole recipe as YAML, every default spelled out; ``load_recipe`` reads it back to an equal recipe."""
    plain = recipe.model_dump(mode="json")
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=100)


def write_recipe(recipe: Recipe, folder: Path) -> None:
    """Write ``recipe.yaml`` beside a classifier's weights: task, labels and prompt go where they go."""
    (folder / "recipe.yaml").write_text(recipe_to_yaml(recipe), encoding="utf-8")


def differences(old: Recipe, new: Recipe) -> list[str]:
    """Dotted keys of two recipes whose values differ."""
    was, now = _flat(old.model_dump()), _flat(new.model_dump())
    return sorted(key for key in was | now if was.get(key) != now.get(key))


def _flat(section: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in section.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _apply(raw: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    path = key.strip().split(".")
    if not equals or not all(path):
        raise RecipeError(f"--set {override}: must read KEY=VALUE, for instance --set train.learning_rate=3e-4")
    node = raw
    for depth, part in enumerate(path[:-1]):
        child = node.get(part)
        if child is None:
            child = node[part] = {}
        if not isinstance(child, dict):
            raise RecipeError(f"--set {override}: {'.'.join(path[: depth + 1])} is a value, not a section")
        node = child
    try:
        node[path[-1]] = yaml.safe_load(value)
    except yaml.YAMLError:
        raise RecipeError(f"--set {override}: {value!r} is not a YAML value; quote it if it is text") from None


def explain_faults(name: str, faults: ValidationError, root: type[BaseModel], what: str) -> str:
    """Every fault of ``name``, one a line, each with its path; it should have been a ``root``, called ``what``."""
    found = faults.errors()
    places = [fault["loc"] for fault in found]
    return "\n".join(
        _explain(name, fault, root, what)
        for fault in found
        # Pydantic counts the members of a list that hold: where one does not, "too short" is only its echo.
        if fault["type"] != "too_short" or not any(_is_within(place, fault["loc"]) for place in places)
    )


def _is_within(place: tuple[int | str, ...], outer: tuple[int | str, ...]) -> bool:
    return len(place) > len(outer) and place[: len(outer)] == outer


def _explain(name: str, fault: Any, root: type[BaseModel], what: str) -> str:
    path = ".".join(str(part) for part in fault["loc"] if not _is_branch(part))
    where = f"{name}: {path}" if path else name
    if fault["type"] == "extra_forbidden":
        return f"{where}: unknown key{nearest(str(fault['loc'][-1]), _keys_beside(fault['loc'], root))}"
    if fault["type"] == "missing":
        return f"{where}: missing; every {what} must set it"
    reason = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "value_error":
        return f"{where}.{reason}" if path else f"{name}: {reason}"
    return f"{where}: {reason[0].lower()}{reason[1:]}; found {fault['input']!r}"


def _is_branch(part: int | str) -> bool:
    # Pydantic adds the tried member of a union to the path ("literal['all-linear']"), which no user wrote.
    return isinstance(part, str) and ("[" in part or part in {"str", "int", "float"})


def _keys_beside(loc: Sequence[int | str], root: type[BaseModel]) -> tuple[str, ...]:
    """Valid keys of the section that holds the last part of ``loc``."""
    model = root
    for part in loc[:-1]:
        if isinstance(part, int):
            continue  # a place in a list, whose members were found with the list
        field = model.model_fields.get(part)
        inner = _section(field.annotation) if field else None
        if inner is None:
            return ()
        model = inner
    return tuple(model.model_fields)


def _section(annotation: Any) -> type[BaseModel] | None:
    """The record that a field holds, alone, in a list or beside other types."""
    members = typing.get_args(annotation) or (annotation,)
    return next((one for one in members if isinstance(one, type) and issubclass(one, BaseModel)), None)


def _kind(value: object) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"
