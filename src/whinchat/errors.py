"""Errors that a user can act on.

Every message says what was found, where, and what to do. The command line prints it on one line and exits with
``exit_code``; a traceback is for our own mistakes only.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class WhinchatError(Exception):
    """Base of every error whinchat raises on purpose."""

    exit_code = 2


class RecipeError(WhinchatError):
    """The recipe or an override is wrong; the message lists every fault, one a line."""


class DataError(WhinchatError):
    """A data source cannot be read, or what it holds does not fit the task."""


class ModelError(WhinchatError):
    """A model cannot be loaded, or cannot do what the recipe asks of it."""


class PromptError(WhinchatError):
    """A prompt cannot be built: no chat template, or no room for the text."""


class RunError(WhinchatError):
    """A run folder is missing, unfinished, or in the way."""


class HubError(WhinchatError):
    """The Hugging Face hub cannot be reached, or refuses what was asked of it."""


def nearest(word: str, choices: Iterable[str], cutoff: float = 0.5) -> str:
    """``; did you mean X?`` for the closest choice, else a full stop."""
    close = difflib.get_close_matches(word, list(choices), n=1, cutoff=cutoff)
    return f"; did you mean {close[0]}?" if close else "."
