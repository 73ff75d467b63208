"""Errors that a user can act on.

Every message names what failed and where, and says what to do about it. The command line prints the message as it is
and exits with ``exit_code``; a traceback means a bug in whinchat.
"""

import difflib
from collections.abc import Iterable


class WhinchatError(Exception):
    """Base class of all errors that whinchat raises on purpose.

    Attributes:
        faults: everything that is wrong, one message each; the text of the error has one below the other.
    """

    exit_code = 2

    def __init__(self, *faults: str) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class RecipeError(WhinchatError):
    """A recipe or an override is not valid; the message lists every fault on a line of its own."""


class DataError(WhinchatError):
    """Data cannot be read, or does not fit the task."""


class ModelError(WhinchatError):
    """A model cannot be loaded, or cannot do what the recipe asks for."""


class DivergenceError(ModelError):
    """Training ended because its loss, gradients or weights were not finite, or its loss had exploded."""


class ScoresError(ModelError):
    """A model gives scores that are not finite numbers."""


class PromptError(WhinchatError):
    """A prompt cannot be built: the tokenizer has no chat template, or the prompt leaves no room for the text."""


class RunError(WhinchatError):
    """A run folder is missing or unfinished, or holds something that may not be overwritten."""


class OutputError(WhinchatError):
    """A file cannot be written: the disk is full, or the place is read-only or taken. What was there before stays."""


class BadResultError(RunError):
    """The result of a run is bad, so the run is not published without a confirmation."""


class HubError(WhinchatError):
    """The Hugging Face hub cannot be reached, or refuses a request."""


def nearest(word: str, choices: Iterable[str], cutoff: float = 0.5) -> str:
    """Return ``; did you mean CHOICE?`` for the choice that is spelled most like ``word``, or a full stop if none is.

    Args:
        word: what the user wrote.
        choices: the valid words.
        cutoff: least similarity of a choice to be suggested, from 0 to 1; see ``difflib.get_close_matches``.
    """
    close = difflib.get_close_matches(word, list(choices), n=1, cutoff=cutoff)
    return f"; did you mean {close[0]}?" if close else "."
