"""Read YAML files that people write: in bounded time and size, no key twice, and with the spelling of every value.

YAML reads some unquoted words as something else than text: ``no`` as false, ``0`` as a number, ``2024-01-01`` as a
date. The reader keeps the spelling, so that an error message can show what stands in the file.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from whinchat.errors import RecipeError

# The longest text that is read, in characters; a recipe has a few thousand.
LONGEST_TEXT = 500_000
# Values of a file with every alias written out, and sections inside each other.
_MOST_VALUES, _DEEPEST = 100_000, 20
_LONGEST_ERROR = 300
_TAG = "tag:yaml.org,2002:"
# What YAML takes an unquoted word for, by its tag; text is not among them.
_KINDS = {"bool": "true or false", "null": "nothing", "int": "a number", "float": "a number", "timestamp": "a date"}
KeyPath = tuple[int | str, ...]


@dataclass(frozen=True)
class Spelling:
    """How a file spells a value that is not text.

    Attributes:
        text: the spelling, such as ``no`` for false.
        kind: what YAML takes it for.
        quoted: how to write it so that it is text.
    """

    text: str
    kind: str
    quoted: str


@dataclass(frozen=True)
class YamlDocument:
    """A file that was read.

    Attributes:
        values: the content; every key of a mapping is a string.
        spellings: the spelling of each value that is not text, by the path of its keys.
        faults: keys that stand there twice or are not text, one sentence each.
    """

    values: Any
    spellings: dict[KeyPath, Spelling]
    faults: tuple[str, ...]


def read_yaml(text: str, number_keys: Collection[str] = (), path: KeyPath = ()) -> YamlDocument:
    """Read one YAML document.

    Args:
        text: the YAML.
        number_keys: sections whose keys may be numbers; elsewhere a number as a key is a fault.
        path: keys that lead to the document in a larger one, for paths in ``spellings`` and ``faults``.

    Raises:
        RecipeError: the text is not YAML, uses tags, or is too long or too deeply nested; one line, without a name.
    """
    if len(text) > LONGEST_TEXT:
        raise RecipeError(f"has more than {LONGEST_TEXT:,} characters, which no recipe needs; is this the right file?")
    try:
        node = _Composer(text).get_single_node()
        walk = _Walk(number_keys)
        values = None if node is None else walk.value(node, path, 0)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).replace('in "<unicode string>", ', "in ").split())
        raise RecipeError(f"not valid YAML: {reason[:_LONGEST_ERROR]}") from None
    return YamlDocument(values, walk.spellings, tuple(walk.faults))


class _Composer(yaml.SafeLoader):
    """PyYAML's composer, which refuses tags and deep nesting before it recurses into them."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]  # PyYAML's stubs leave it untyped
        if (tag := getattr(event, "tag", None)) is not None:
            raise yaml.MarkedYAMLError(
                None,
                None,
                f"tags such as {tag.replace(_TAG, '!!')[:40]} are not read; remove it, and put text in quotes",
                event.start_mark,
            )
        if self._depth > _DEEPEST:
            raise _too_deep(event.start_mark)
        self._depth += 1
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node


class _Walk:
    """Turns the nodes of a document into values, aliases written out, and notes spellings and faults."""

    def __init__(self, number_keys: Collection[str]) -> None:
        self.spellings: dict[KeyPath, Spelling] = {}
        self.faults: list[str] = []
        self._number_keys = number_keys
        self._count = 0
        self._constructor = yaml.SafeLoader("")

    def value(self, node: yaml.Node, path: KeyPath, depth: int) -> Any:
        self._count += 1
        if self._count > _MOST_VALUES:
            fault = f"more than {_MOST_VALUES:,} values, counting what aliases repeat; write fewer"
            raise yaml.MarkedYAMLError(None, None, fault, node.start_mark)
        if depth > _DEEPEST:
            raise _too_deep(node.start_mark)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(entry, (*path, index), depth + 1) for index, entry in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, depth)
        assert isinstance(node, yaml.ScalarNode)
        value, kind = self._scalar(node)
        if kind:
            self.spellings[path] = _spelling(node, kind)
        return value

    def _mapping(self, node: yaml.MappingNode, path: KeyPath, depth: int) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            if key_node.tag == f"{_TAG}merge":
                for part in self._merged(value_node, path, depth):
                    merged = part | merged  # the first of several mappings counts, as YAML's merge key has it
                continue
            key, line = self._key(key_node, path), key_node.start_mark.line + 1
            if key in lines:
                where = f"lines {lines[key]} and {line}" if lines[key] != line else f"both in line {line}"
                self.faults.append(f"{dotted((*path, key))} occurs twice ({where}); keep one of them")
            lines.setdefault(key, line)
            own[key] = self.value(value_node, (*path, key), depth + 1)
        return merged | own

    def _merged(self, node: yaml.Node, path: KeyPath, depth: int) -> Iterator[dict[str, Any]]:
        parts = node.value if isinstance(node, yaml.SequenceNode) else [node]
        for part in parts:
            content = self.value(part, path, depth + 1)
            if not isinstance(content, dict):
                raise yaml.MarkedYAMLError(None, None, "<< must name mappings", part.start_mark)
            yield content

    def _key(self, node: yaml.Node, path: KeyPath) -> str:
        if not isinstance(node, yaml.ScalarNode):
            raise yaml.MarkedYAMLError(None, None, "a key must be text, not a list or a mapping", node.start_mark)
        text, kind = self._scalar(node)
        if kind and not (kind == "a number" and path and path[-1] in self._number_keys):
            self.faults.append(f"{dotted(path) or 'top level'}: {not_text(_spelling(node, kind), 'the key ')}")
        key = str(node.value if kind else text)
        legible = key.encode("utf-8", "replace").decode()
        if legible != key:
            where = dotted(path) or "top level"
            self.faults.append(f"{where}: the key {legible} holds half a character, often an emoji cut in two")
        return legible

    def _scalar(self, node: yaml.ScalarNode) -> tuple[Any, str]:
        """Return the value, and the kind that YAML takes it for; text has none."""
        name = node.tag.removeprefix(_TAG)
        if name not in _KINDS:
            # JSON, which YAML includes, writes an emoji as a pair of escaped halves.
            return node.value.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass"), ""
        digits = node.value.lstrip("+-")
        if name in {"int", "float"} and (
            ":" in digits or (name == "int" and digits[0] == "0" and digits[1:].isdigit())
        ):
            # YAML 1.1 reads 010 as 8 and 1:30 as 90, which nobody means.
            return node.value, ""
        try:
            return self._constructor.construct_object(node), _KINDS[name]
        except ValueError:  # no such day, or a number of too many digits
            return node.value, ""


def not_text(spelling: Spelling, noun: str = "") -> str:
    """Return why a word is not text, and what to write instead; ``noun`` says what the word is, such as "the key "."""
    if not spelling.text:
        return 'has no value; write one, or "" for empty text'
    return f"YAML reads {noun}{spelling.text} as {spelling.kind}, not as text; put it in quotes: {spelling.quoted}"


def _spelling(node: yaml.ScalarNode, kind: str) -> Spelling:
    return Spelling(node.value, kind, f'"{node.value}"')


def dotted(path: KeyPath) -> str:
    """Return a path of keys as messages write it, such as ``task.labels.0``, on one line that a terminal can show."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in ".".join(map(str, path)))


def _too_deep(mark: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(None, None, f"more than {_DEEPEST} levels inside each other; write fewer", mark)
