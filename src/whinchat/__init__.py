"""whinchat: turn a small chat model into a text classifier that can be trusted, on the machine at hand.

Importing this package loads no torch and touches no environment variable.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from whinchat.errors import WhinchatError
from whinchat.recipe.loader import load_recipe
from whinchat.recipe.schema import Recipe

if TYPE_CHECKING:
    from whinchat.classifier import Classifier

__version__ = "0.1.0"

__all__ = ["Classifier", "Recipe", "WhinchatError", "__version__", "load_recipe"]


def __getattr__(name: str) -> Any:
    # Loaded when it is asked for: it takes torch along.
    if name == "Classifier":
        return import_module("whinchat.classifier").Classifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
