"""Read the label out of a freely generated answer."""

import re
import string

from whinchat.recipe.schema import AnswerParser
from whinchat.recipe.task import Task

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
    index_of, said = _spellings(task), text.strip().casefold()
    if parser == "exact":
        return index_of.get(said, index_of.get(_bare(said), INVALID))
    # Alternatives are tried in order, so a longer word comes before a word that it begins with.
    words = "|".join(re.escape(word) for word in sorted(index_of, key=len, reverse=True))
    found = re.search(rf"(?<!\w)(?:{words})(?!\w)", said)
    return INVALID if found is None else index_of[found[0]]


def _spellings(task: Task) -> dict[str, int]:
    """The index of the label for each answer word, as it stands and without punctuation around it."""
    words = [word.casefold() for word in task.answer_words]
    bare = {_bare(word): index for index, word in reversed([*enumerate(words)]) if _bare(word)}
    # Words that differ in their punctuation alone ("yes", "yes!") are told apart by it.
    return bare | {word: index for index, word in enumerate(words)}


def _bare(text: str) -> str:
    return text.strip("\"'`.!" + string.whitespace)
