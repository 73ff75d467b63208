"""Read and write recipes: YAML, dotted overrides, and one error message that lists every fault."""

import re
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
# Keys that choose what is reported, as those of "reference" do. A run with other values of them trains and answers in
# the same way.
_REPORTING_KEYS = {"description", "train.report_to", "evaluate.parse", "evaluate.slices", "evaluate.stress_edits"}


def read_mapping(name: str, text: str, requirement: str) -> dict[str, Any]:
    """Parse YAML that must hold a mapping.

    Args:
        name: the file or preset, for error messages.
        text: the YAML.
        requirement: what the file should hold, for the error message about YAML that is no mapping.

    Raises:
        RecipeError: ``text`` is not YAML, or not a mapping.
    """
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"{name}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        content = "nothing" if raw is None else f"a {type(raw).__name__}"
        raise RecipeError(f"{name}: holds {content}; {requirement}")
    return raw


def list_recipes() -> dict[str, str]:
    """Return the names and descriptions of the recipes that come with whinchat."""
    return {name: load_recipe(name).description for name in RECIPES.names()}


def load_recipe(name_or_path: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and check it.

    Args:
        name_or_path: name of a shipped recipe, path of a YAML file, or path of a folder that holds ``recipe.yaml``.
        overrides: values to replace, such as ``train.learning_rate=3e-4``, in the order given.

    Raises:
        RecipeError: lists every unknown key, wrong type and out-of-range value, one a line, each with its path.
    """
    raw = read_mapping(name_or_path, RECIPES.text(name_or_path), "a recipe is a mapping with task, data, backbone, ...")
    for override in overrides:
        _apply(raw, override)
    try:
        return Recipe.model_validate(raw)
    except ValidationError as error:
        raise RecipeError(explain_faults(name_or_path, error, Recipe, "recipe")) from None


def recipe_to_yaml(recipe: Recipe) -> str:
    """Return the recipe as YAML with every default spelled out; ``load_recipe`` reads an equal recipe from it."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100)


def write_recipe(recipe: Recipe, folder: Path) -> None:
    """Write ``recipe.yaml`` into the folder of a classifier's weights, which need its task, labels and prompt."""
    (folder / "recipe.yaml").write_text(recipe_to_yaml(recipe), encoding="utf-8")


def differences(old: Recipe, new: Recipe) -> list[str]:
    """Return the dotted keys whose values differ between two recipes."""
    old_values, new_values = _flat(old.model_dump()), _flat(new.model_dump())
    return sorted(key for key in old_values | new_values if old_values.get(key) != new_values.get(key))


def conflicting_keys(old: Recipe, new: Recipe) -> list[str]:
    """Return the dotted keys whose difference keeps a run of ``old`` from being resumed with ``new``.

    Keys that only choose what is reported do not count, nor does a date that one of the recipes leaves open.
    """
    conflicts = differences(old, new.dated(old.task.date))
    exempt = _REPORTING_KEYS | ({"task.date"} if old.task.date is None else set())
    return [key for key in conflicts if key not in exempt and key.partition(".")[0] != "reference"]


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


def explain_faults(name: str, error: ValidationError, root: type[BaseModel], noun: str) -> str:
    """Return every fault of a file, one a line, each with the path of its key.

    Args:
        name: the file or preset.
        error: what pydantic found.
        root: the model that the file was checked against.
        noun: what the file is, such as "recipe".
    """
    faults = error.errors()
    paths = [fault["loc"] for fault in faults]
    return "\n".join(
        _explain(name, fault, root, noun)
        for fault in faults
        # Pydantic does not count invalid members of a list, so that "too short" may only repeat their faults.
        if fault["type"] != "too_short" or not any(_is_within(path, fault["loc"]) for path in paths)
    )


def _is_within(path: tuple[int | str, ...], outer: tuple[int | str, ...]) -> bool:
    return len(path) > len(outer) and path[: len(outer)] == outer


def _explain(name: str, fault: Any, root: type[BaseModel], noun: str) -> str:
    path = ".".join(str(part) for part in fault["loc"] if not _is_union_member(part))
    where = f"{name}: {path}" if path else name
    if fault["type"] == "extra_forbidden":
        return f"{where}: unknown key{nearest(str(fault['loc'][-1]), _keys_beside(fault['loc'], root))}"
    if fault["type"] == "missing":
        return f"{where}: missing; every {noun} must set it"
    reason = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "value_error":
        return f"{where}.{reason}" if path else f"{name}: {reason}"
    choices = re.findall(r"'([^']+)'", fault["ctx"]["expected"]) if fault["type"] == "literal_error" else ()
    suggestion = nearest(str(fault["input"]), choices).removesuffix(".")
    return f"{where}: {reason[0].lower()}{reason[1:]}; found {fault['input']!r}{suggestion}"


def _is_union_member(part: int | str) -> bool:
    # Pydantic adds the tried member of a union to the path ("literal['all-linear']"), which is no key of the file.
    return isinstance(part, str) and ("[" in part or part in {"str", "int", "float"})


def _keys_beside(loc: Sequence[int | str], root: type[BaseModel]) -> tuple[str, ...]:
    """Return the valid keys of the section that holds the last part of ``loc``."""
    model = root
    for part in loc[:-1]:
        if isinstance(part, int):
            continue  # an index in a list; the field of the list led to the model of its members
        field = model.model_fields.get(part)
        inner = _section(field.annotation) if field else None
        if inner is None:
            return ()
        model = inner
    return tuple(model.model_fields)


def _section(annotation: Any) -> type[BaseModel] | None:
    """Return the model in a field's annotation, whether alone, in a list or in a union."""
    members = typing.get_args(annotation) or (annotation,)
    return next((member for member in members if isinstance(member, type) and issubclass(member, BaseModel)), None)
