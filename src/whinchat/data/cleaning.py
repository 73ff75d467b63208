"""Cleaning steps that a recipe applies to every text, in training and in use."""

import html
import re
from collections.abc import Callable, Sequence

from whinchat.recipe.task import Cleaning

_UNICODE_ESCAPES = re.compile(r"(?:\\u[0-9a-fA-F]{4})+")
_REPEATED_QUOTES = re.compile(r'(?:\\?"){2,}|\\"')
_WHITESPACE = {r"\n": "\n", r"\r": "\r", r"\t": "\t"}
_WHITESPACE_ESCAPES = re.compile(r"\\[nrt]")
# A name of Twitter's, but not within an e-mail address. In scripts without spaces, the text goes on right behind it.
_MENTION = re.compile(r"(?<!\w)@[A-Za-z0-9_]+")
# What links are mostly made of. Quotes, brackets, commas and letters of other scripts may belong to the text around.
_LINK = re.compile(r"https?://[A-Za-z0-9._~:/?#@$&+=%-]*", re.IGNORECASE)


def clean(text: str, steps: Sequence[Cleaning]) -> str:
    """Apply ``steps`` to ``text`` in their order."""
    for step in steps:
        text = _STEPS[step](text)
    return text


def _unescape(text: str) -> str:
    r"""Replace spelled-out characters (``\u2019``, ``\n``) by themselves, doubled and escaped quotes by one quote."""
    text = _REPEATED_QUOTES.sub('"', _UNICODE_ESCAPES.sub(_decode_escapes, text))
    return _WHITESPACE_ESCAPES.sub(lambda match: _WHITESPACE[match[0]], text)


def _decode_escapes(match: re.Match[str]) -> str:
    # Adjacent escapes are decoded together, since a character outside the basic plane is a pair of surrogates.
    units = bytes.fromhex(match[0].replace("\\u", ""))
    return units.decode("utf-16-be", errors="replace")


_STEPS: dict[Cleaning, Callable[[str], str]] = {
    "html_entities": html.unescape,
    "json_escapes": _unescape,
    "spaces": lambda text: " ".join(text.split()),
    "mentions": lambda text: _MENTION.sub("@user", text),
    "links": lambda text: _LINK.sub("http", text),
}
