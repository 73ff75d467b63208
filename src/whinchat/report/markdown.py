"""Markdown that shows text of users and models as it is, without letting it act as markup."""

import re
from typing import Any

from whinchat.report.text_table import TextTable
from whinchat.report.visible_text import one_line

_MARKUP = re.compile(r"[\\`*_\[\]~#|]")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "$": "&#36;"}


class Markdown(str):
    """Text that is Markdown already, so ``escape`` returns it unchanged."""

    __slots__ = ()


def escape(value: Any) -> Markdown:
    """Return one line of Markdown that shows ``value`` literally: no markup, HTML, formula or end of a table cell."""
    if isinstance(value, Markdown):
        return value
    line = "".join(_ENTITIES.get(c, c) for c in one_line(value))
    # The "#" of the entity for "$" must not be escaped.
    return Markdown(_MARKUP.sub(lambda match: f"\\{match[0]}", line).replace("&\\#36;", "&#36;"))


def markdown_link(text: Any, url: str | None) -> Markdown:
    """Return ``text`` as a link to ``url``, or as plain text without one; ``url`` must hold no bracket or space."""
    return escape(text) if url is None else Markdown(f"[{escape(text)}]({url})")


def fence(text: str, language: str) -> Markdown:
    """Return a code block whose fence is longer than every run of backticks in ``text``, so none can close it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    ticks = "`" * max(3, longest + 1)
    return Markdown(f"{ticks}{language}\n{text.rstrip()}\n{ticks}")


def markdown_table(table: TextTable) -> Markdown:
    """Return a GitHub-flavoured table with numbers aligned to the right."""
    values = len(table.columns) - table.heads
    rule = ["---"] * table.heads + (["---:"] if table.numeric else ["---"]) * values
    header, *rows = (" | ".join(escape(cell) for cell in row) for row in (table.columns, *table.rows))
    return Markdown("\n".join(f"| {line} |" for line in (header, " | ".join(rule), *rows)))
