"""What a recipe may ask to be mended in every text before it is read, in training and in use alike."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence

from whinchat.recipe.schema import Cleaning

_ESCAPED = re.compile(r"(?:\\u[0-9a-fA-F]{4})+")
_QUOTES = re.compile(r'(?:\\?"){2,}|\\"')
_SPACES = {r"\n": "\n", r"\r": "\r", r"\t": "\t"}
_BREAKS = re.compile(r"\\[nrt]")


def clean(text: str, steps: Sequence[Cleaning]) -> str:
    """``text`` after each of ``steps``, in their order."""
    for step in steps:
        text = _STEPS[step](text)
    return text


def _unescape(text: str) -> str:
    r"""Spelled-out characters (``\u2019``, ``\n``) become themselves; surrogates, doubled and escaped quotes one."""
    return _BREAKS.sub(lambda found: _SPACES[found[0]], _QUOTES.sub('"', _ESCAPED.sub(_character, text)))


def _character(found: re.Match[str]) -> str:
    units = bytes.fromhex(found[0].replace("\\u", ""))
    return units.decode("utf-16-be", errors="replace")


_STEPS: dict[Cleaning, Callable[[str], str]] = {
    "html_entities": html.unescape,
    "json_escapes": _unescape,
    "spaces": lambda text: " ".join(text.split()),
}
