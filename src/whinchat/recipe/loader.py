"""Read and write recipes: YAML, dotted overrides, and one error message that lists every fault."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, TypeVar

import yaml
from pydantic import ValidationError

from whinchat.errors import RecipeError
from whinchat.output_files import replace_file
from whinchat.recipe.faults import explain_faults
from whinchat.recipe.field_types import Section
from whinchat.recipe.label_block import label_block
from whinchat.recipe.presets import PresetRegistry
from whinchat.recipe.schema import Recipe
from whinchat.recipe.yaml_reader import YamlDocument, read_yaml

RECIPES = PresetRegistry("a recipe", "whinchat recipes list")
# Keys and sections that choose what is reported. A run with other values of them trains and answers in the same way.
_REPORTING_KEYS = {
    "description", "task.language", "train.report_to", "evaluate.parse", "evaluate.slices", "evaluate.stress_edits",
}  # fmt: skip
_REPORTING_SECTIONS = {"reference", "publish"}


_LABELS = ("task", "labels")

SectionType = TypeVar("SectionType", bound=Section)


@dataclass(frozen=True)
class SettingsFile:
    """A YAML file that holds a mapping, and the overrides of its values.

    Attributes:
        name: the file or preset, for error messages.
        document: its content.
    """

    name: str
    document: YamlDocument

    @classmethod
    def read(cls, name: str, text: str, requirement: str, number_keys: Collection[str] = ()) -> Self:
        """Parse YAML that must hold a mapping.

        Args:
            name: the file or preset.
            text: the YAML.
            requirement: what the file should hold, for the error message about YAML that is no mapping.
            number_keys: sections whose keys may be numbers.

        Raises:
            RecipeError: ``text`` is not YAML, or not a mapping.
        """
        try:
            document = read_yaml(text, number_keys)
        except RecipeError as fault:
            raise RecipeError(f"{name}: {fault}") from None
        if not isinstance(document.values, dict):
            content = (
                "nothing" if document.values is None else "a list" if isinstance(document.values, list) else "text"
            )
            raise RecipeError(f"{name}: holds {content}; {requirement}")
        return cls(name, document)

    def checked(self, model: type[SectionType], noun: str, overrides: Sequence[str] = ()) -> SectionType:
        """Return the content as a ``model``, which ``noun`` names in messages, with the ``overrides`` applied.

        Raises:
            RecipeError: lists every fault, one a line.
        """
        document, faults = self.overridden(overrides)
        try:
            settings = model.model_validate(document.values)
        except ValidationError as error:
            faults += explain_faults(self.name, error, model, noun, document.spellings)
            faults += _quoted_labels(self.name, document)
        if faults:
            raise RecipeError(*faults)
        return settings

    def overridden(self, overrides: Sequence[str]) -> tuple[YamlDocument, list[str]]:
        """Return the content with the ``overrides`` applied, and the faults of both.

        Raises:
            RecipeError: an override does not read KEY=VALUE, its key leads through a value, or its value is not YAML.
        """
        document = self.document
        faults = [f"{self.name}: {fault}" for fault in document.faults]
        for override in overrides:
            document, override_faults = _apply(document, override)
            faults += override_faults
        return document, faults


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
    return _read_file(name_or_path).checked(Recipe, "recipe", overrides)


def load_section(name_or_path: str, section: str, model: type[SectionType], overrides: Sequence[str]) -> SectionType:
    """Read one section of a recipe whose other sections may be wrong; unknown keys of the section are left out.

    Raises:
        RecipeError: the recipe is no YAML mapping, or the section is missing or wrong.
    """
    document, _ = _read_file(name_or_path).overridden(overrides)
    values = document.values.get(section)
    if isinstance(values, dict):
        values = {key: value for key, value in values.items() if key in model.model_fields}
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise RecipeError(*explain_faults(name_or_path, error, model, "recipe", document.spellings)) from None


def _read_file(name_or_path: str) -> SettingsFile:
    requirement = "a recipe is a mapping with task, data, backbone, ..."
    return SettingsFile.read(name_or_path, RECIPES.text(name_or_path), requirement)


def _quoted_labels(name: str, document: YamlDocument) -> list[str]:
    """Return the labels of a recipe in quotes, as one more line of an error, where a label is not read as text."""
    spelled = {path[2]: one.text for path, one in document.spellings.items() if path[:2] == _LABELS and path[2:]}
    if not spelled or not isinstance(labels := document.values["task"]["labels"], list):
        return []
    quoted = [spelled.get(position, str(label)) for position, label in enumerate(labels)]
    return [f"{name}: task.labels in quotes, to paste:\n{label_block(quoted)}"]


def recipe_to_yaml(recipe: Recipe) -> str:
    """Return the recipe as YAML with every default spelled out; ``load_recipe`` reads an equal recipe from it."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100)


def write_recipe(recipe: Recipe, folder: Path) -> None:
    """Write ``recipe.yaml`` into the folder of a classifier's weights, which need its task, labels and prompt."""
    content = recipe_to_yaml(recipe)
    replace_file(folder / "recipe.yaml", lambda draft: draft.write_text(content, encoding="utf-8"))


def without_home(recipe: Recipe) -> Recipe:
    """Return the recipe with ``~`` in place of the home folder in its paths.

    Runs store such a recipe: its paths stay valid on this machine, and its files can be given away without the name
    of the user, which is part of the home folder's path.
    """
    soft = recipe.data.soft_labels
    paths = {"source": _from_home(recipe.data.source), "soft_labels": None if soft is None else _from_home(soft)}
    data = recipe.data.model_copy(update=paths)
    backbone = recipe.backbone.model_copy(update={"model": _from_home(recipe.backbone.model)})
    return recipe.model_copy(update={"data": data, "backbone": backbone})


def _from_home(source: str) -> str:
    path, home = Path(source), Path.home()
    if not path.is_absolute() or home == Path(home.anchor) or not path.is_relative_to(home):
        return source
    return str("~" / path.relative_to(home))


def differences(old: Recipe, new: Recipe) -> list[str]:
    """Return the dotted keys whose values differ between two recipes."""
    old_values, new_values = setting_values(old), setting_values(new)
    return sorted(key for key in old_values | new_values if old_values.get(key) != new_values.get(key))


def conflicting_keys(old: Recipe, new: Recipe) -> list[str]:
    """Return the dotted keys whose difference keeps a run of ``old`` from being resumed with ``new``.

    Keys that only choose what is reported do not count, nor does a date or a split to measure that one of the recipes
    leaves open. Stored results of other rows are told by their fingerprints.
    """
    conflicts = differences(without_home(old), without_home(new.dated(old.task.date)))
    exempt = _REPORTING_KEYS | ({"task.date"} if old.task.date is None else set())
    if "auto" in {old.evaluate.split, new.evaluate.split}:
        exempt |= {"evaluate.split"}
    return [key for key in conflicts if key not in exempt and key.partition(".")[0] not in _REPORTING_SECTIONS]


def setting_values(recipe: Recipe) -> dict[str, Any]:
    """Return the value of each key of a recipe by its dotted name."""
    return _flat(recipe.model_dump())


def _flat(section: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in section.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _apply(document: YamlDocument, override: str) -> tuple[YamlDocument, list[str]]:
    """Return the document with one value replaced, and the faults of the override.

    Raises:
        RecipeError: the override does not read KEY=VALUE, its key leads through a value, or its value is not YAML.
    """
    key, equals, text = override.partition("=")
    path = key.strip().split(".")
    if not equals or not all(path):
        raise RecipeError(f"--set {override}: must read KEY=VALUE, for instance --set train.learning_rate=3e-4")
    try:
        value = read_yaml(text, path=tuple(path))
    except RecipeError:
        raise RecipeError(f"--set {override}: {text!r} is not a YAML value; quote it if it is text") from None
    bare = value.spellings.get(tuple(path))
    if bare is not None:  # the shell takes one pair of quotes
        value.spellings[tuple(path)] = replace(bare, quoted=f"--set '{key}=\"{bare.text}\"'")
    spellings = {place: kept for place, kept in document.spellings.items() if place[: len(path)] != tuple(path)}
    values = _with_value(document.values, path, value.values, override)
    faults = [f"--set {override}: {fault}" for fault in value.faults]
    return replace(document, values=values, spellings=spellings | value.spellings), faults


def _with_value(values: dict[str, Any], path: Sequence[str], value: Any, override: str) -> dict[str, Any]:
    """Return a copy of ``values`` with ``value`` at ``path``; sections that are missing are made."""
    copied = node = dict(values)
    for depth, key in enumerate(path[:-1], start=1):
        section = {} if node.get(key) is None else node[key]
        if not isinstance(section, dict):
            raise RecipeError(f"--set {override}: {'.'.join(path[:depth])} is a value, not a section")
        node[key] = dict(section)
        node = node[key]
    node[path[-1]] = value
    return copied
