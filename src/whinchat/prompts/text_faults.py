"""Why there is no prompt for a text, and which text that is."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice

from whinchat.errors import PromptError


@contextmanager
def named_text(row: int, text: str, split: str) -> Iterator[None]:
    """Add to a PromptError where the text stands and how it begins."""
    try:
        yield
    except PromptError as error:
        place = f"row {row} of {split}" if split else f"text {row}"
        shown = repr(text if len(text) <= 40 else f"{text[:40]}…")
        raise PromptError(f"{place} ({shown}): there is no prompt for it: {error}; leave this text out") from None


def holds_marks(marks: Iterable[str]) -> PromptError:
    """Return the error of a text that holds ``marks`` of the chat."""
    shown = " and ".join(map(repr, islice(marks, 3)))
    return PromptError(f"it holds {shown or 'marks'} of the chat, which cannot be broken up; remove them")
