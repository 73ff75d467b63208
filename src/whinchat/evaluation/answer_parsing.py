"""Read the label out of a freely generated answer."""

import re
import string

from whinchat.recipe.schema import AnswerParser, Task

# The label index of an answer that is no label.
INVALID = -1


def parse_answer(text: str, task: Task, parser: AnswerParser = "exact") -> int:
    """Return the index of the label that ``text`` names, or ``INVALID``. Case is ignored.

    Args:
        text: the generated answer.
        task: the labels and their answer words.
        parser: ``exact`` compares the whole answer with the answer words, without surrounding white space, quotes, full
            stops and exclamation marks. Any further word makes the answer invalid, since the instruction asks for
            exactly one. ``first_word`` takes the answer word that occurs first as a whole word anywhere in the answer,
            and the longest of several that begin there.
    """
    words = [_normalize(word) for word in task.answer_words]
    if parser == "exact":
        answer = _normalize(text)
        return words.index(answer) if answer in words else INVALID
    found = _first_word(words, text.casefold())
    return INVALID if found is None else words.index(found)


def _first_word(words: list[str], text: str) -> str | None:
    """The word that occurs first in ``text``, neither preceded nor followed by a letter, digit or underscore."""
    # Alternatives are tried in order, so a longer word comes before a word that it begins with.
    alternatives = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True) if word)
    match = re.search(rf"(?<!\w)(?:{alternatives})(?!\w)", text) if alternatives else None
    return None if match is None else match[0]


def _normalize(text: str) -> str:
    return text.strip("\"'`.!" + string.whitespace).casefold()
