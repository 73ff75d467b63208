"""Write labels as YAML, in quotes, so that no label is read as a number, a date or a truth value."""

import math
from collections.abc import Iterable

import yaml


def quote_yaml(text: str) -> str:
    """Return ``text`` as a quoted YAML string on one line; what cannot be seen is escaped."""
    quoted: str = yaml.safe_dump(text, default_style='"', allow_unicode=True, width=math.inf)
    return quoted.strip()


def label_block(labels: Iterable[str]) -> str:
    """Return ``task.labels`` as it stands in a recipe, to be pasted below ``task:``."""
    return "\n".join(("  labels:", *(f"    - {quote_yaml(label)}" for label in labels)))
