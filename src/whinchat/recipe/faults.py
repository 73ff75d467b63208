"""Explain what pydantic found wrong in a file: one line for each fault, with the path of its key and what to do."""

import re
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from whinchat.errors import nearest
from whinchat.recipe.yaml_reader import KeyPath, Spelling, dotted, not_text

_LONGEST_VALUE = 200
_MOST_FAULTS = 50
# Pydantic adds the tried member of a union to a path ("literal['all-linear']"), and "[key]" where a key is at fault.
_UNION_MEMBER = re.compile(r"(literal|dict|tuple)\[.+\]|\[key\]")
# What a user calls the types that pydantic names in its own words.
_EXPECTED = {
    "tuple_type": "should be a list",
    "dict_type": "should be a mapping of keys to values",
    "model_type": "should be a section, a mapping of keys to values",
    "finite_number": "should be a finite number",
    "string_unicode": "holds half a character, often an emoji cut in two, which no file can hold; repair it",
}


def explain_faults(
    name: str,
    error: ValidationError,
    root: type[BaseModel],
    noun: str,
    spellings: Mapping[KeyPath, Spelling] | None = None,
) -> list[str]:
    """Return every fault of a file, each on one line with the path of its key.

    Args:
        name: the file or preset.
        error: what pydantic found.
        root: the model that the file was checked against.
        noun: what the file is, such as "recipe".
        spellings: the spellings of values that are not text (``yaml_reader.YamlDocument``).
    """
    faults = [_Fault(fault) for fault in error.errors(include_url=False)]
    lines = [
        _explain(name, fault, root, noun, spellings or {})
        for fault in faults
        if not (fault.type == "too_short" and any(_is_within(other.path, fault.path) for other in faults))
        and not (fault.type == "literal_error" and any(_is_alternative(other, fault) for other in faults))
    ]
    if len(lines) > _MOST_FAULTS:
        lines[_MOST_FAULTS:] = [f"{name}: and {len(lines) - _MOST_FAULTS} more faults"]
    return lines


class _Fault:
    """One fault, with the path of its key without the members of unions that pydantic adds to the path."""

    def __init__(self, fault: Any) -> None:
        self.type: str = fault["type"]
        self.message: str = fault["msg"].removeprefix("Value error, ")
        self.input: Any = fault["input"]
        self.context: Mapping[str, Any] = fault.get("ctx", {})
        self.path: KeyPath = tuple(part for part in fault["loc"] if not _UNION_MEMBER.fullmatch(str(part)))


def _is_within(path: KeyPath, outer: KeyPath) -> bool:
    return len(path) > len(outer) and path[: len(outer)] == outer


def _is_alternative(other: _Fault, literal: _Fault) -> bool:
    """Whether ``other`` says more about a value that is a list or mapping, which can be none of the words."""
    return isinstance(literal.input, list | dict) and other is not literal and _is_within(other.path, literal.path)


def _explain(name: str, fault: _Fault, root: type[BaseModel], noun: str, spellings: Mapping[KeyPath, Spelling]) -> str:
    path = dotted(fault.path)[:_LONGEST_VALUE]
    where = f"{name}: {path}" if path else name
    if fault.type == "extra_forbidden":
        return f"{where}: unknown key{nearest(str(fault.path[-1]), _keys_beside(fault.path, root))}"
    if fault.type == "missing":
        return f"{where}: missing; every {noun} must set it"
    if fault.type == "value_error":
        return f"{where}.{fault.message}" if path else f"{name}: {fault.message}"
    spelling = spellings.get(fault.path)
    if fault.type == "string_type" and spelling is not None:
        return f"{where}: {not_text(spelling)}"
    reason = _EXPECTED.get(fault.type, "")
    reason = f"input {reason}" if reason else f"{fault.message[0].lower()}{fault.message[1:]}"
    choices = re.findall(r"'([^']+)'", fault.context["expected"]) if fault.type == "literal_error" else ()
    found = repr(fault.input) if spelling is None else spelling.text or "nothing"
    if len(found) > _LONGEST_VALUE:
        found = f"{found[:_LONGEST_VALUE]}..."
    suggestion = nearest(str(fault.input)[:_LONGEST_VALUE], choices).removesuffix(".")
    return f"{where}: {reason}; found {found}{suggestion}"


def _keys_beside(path: Sequence[int | str], root: type[BaseModel]) -> tuple[str, ...]:
    """Return the valid keys of the section that holds the last part of ``path``."""
    model = root
    for part in path[:-1]:
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
