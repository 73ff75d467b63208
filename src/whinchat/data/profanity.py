"""Find texts with profanity, so that none is quoted or stands as an example."""

from collections.abc import Callable
from functools import cache

from whinchat.recipe.card_metadata import PROFANITY_LISTS


@cache
def profanity_finder(language: str) -> Callable[[str], bool]:
    """Return a function that says whether the word list of ``language`` finds profanity in a text.

    Args:
        language: code of the language, as ``task.language`` has it. Where there is no list, nothing is found.
    """
    # The word lists take a moment to load, and few commands need them.
    from glin_profanity import Filter

    if language not in PROFANITY_LISTS:
        return lambda text: False
    found: Callable[[str], bool] = Filter({"languages": [PROFANITY_LISTS[language]]}).is_profane
    return found
