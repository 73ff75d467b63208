"""Bounds on what a stranger's config.json may ask for, and the errors that its values lead to."""

import re
from collections.abc import Iterator
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedConfig

from whinchat.errors import ModelError

# What transformers raises for a config.json with values that it did not expect.
CONFIG_FAULTS = (
    ImportError, OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError,
    AssertionError, MemoryError, StrictDataclassError,
)  # fmt: skip
# Settings by which a model's modules are counted, and more of them than any model has.
_COUNT = re.compile(r".*(layers?|depth|blocks?|experts|heads?)")
_MOST_MODULES = 2_000


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, and the second where the first ends with a colon."""
    lines = (str(error).strip() or type(error).__name__).splitlines()
    return " ".join(lines[: 2 if lines[0].endswith(":") else 1])


def check_module_counts(config: PreTrainedConfig, name: str) -> None:
    """Check that building the model of ``config`` ends soon; transformers builds one layer after the other.

    Raises:
        ModelError: it has more layers, heads or experts than any model has.
    """
    for setting, count in _counts(config.to_dict()):
        if count > _MOST_MODULES:
            raise ModelError(
                f"{name}: its config.json sets {setting} to {count}, more than the {_MOST_MODULES:,} that whinchat "
                "builds; fetch the model again"
            )


def _counts(settings: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """Yield the settings that count modules, also those of parts of the model."""
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _counts(value)
        elif isinstance(value, int) and _COUNT.fullmatch(str(key)):
            yield key, value
