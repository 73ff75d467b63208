"""whinchat: turn a small chat model into a text classifier that can be trusted, on the machine at hand.

Importing this package loads no torch and touches no environment variable.
"""

from whinchat.errors import WhinchatError
from whinchat.recipe.files import load_recipe
from whinchat.recipe.recipe import Recipe

__version__ = "0.1.0"

__all__ = ["Recipe", "WhinchatError", "__version__", "load_recipe"]
