"""Replace the characters that act on a terminal or break a file, wherever text of users and models is shown."""

import json
import re
from typing import Any

from whinchat.errors import RunError

# Control characters except tab and line feed, line and paragraph separators, changes of the writing direction, halves
# of surrogate pairs, and the two characters that no XML file may hold.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


def visible(text: str) -> str:
    """Return ``text`` with "�" in place of each character that acts on a terminal or that no XML file may hold."""
    return _UNSAFE.sub("�", text)


def one_line(value: Any) -> str:
    """Return ``value`` as one line of visible text, with single spaces."""
    return visible(" ".join(str(value).split()))


def visible_json(content: Any, indent: int | None = None) -> str:
    """Return ``content`` as JSON that a terminal can show: the characters that ``visible`` replaces are escaped.

    Raises:
        RunError: a number is NaN or infinite, which JSON cannot hold.
    """
    try:
        text = json.dumps(content, ensure_ascii=False, indent=indent, allow_nan=False)
    except ValueError as error:
        raise RunError(
            f"--json: JSON cannot hold a number that is NaN or infinite ({error}); leave --json away to see the result"
        ) from None
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def ascii_json(text: str) -> str:
    """Return a JSON document with escapes for the characters that are not ASCII; only strings hold such characters."""
    return re.sub("[^\x00-\x7f]+", lambda match: json.dumps(match[0])[1:-1], text)
