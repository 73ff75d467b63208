"""Markdown in which text from users and models can do no harm."""

from __future__ import annotations

import re
from typing import Any

from whinchat.report.text_table import TextTable

_MARKUP = re.compile(r"[\\`*_\[\]~#|]")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "$": "&#36;"}


class Markdown(str):
    """Text that is Markdown already, and goes into a template as it is."""

    __slots__ = ()


def escape(value: Any) -> Markdown:
    """One line of Markdown that shows ``value`` as it is: no markup, no HTML, no formulas, no end of a table cell."""
    if isinstance(value, Markdown):
        return value
    line = " ".join("".join(c if c.isprintable() else " " for c in str(value)).split())
    line = "".join(_ENTITIES.get(c, c) for c in line)
    # The "#" of an entity made just now must stay bare.
    return Markdown(_MARKUP.sub(lambda found: f"\\{found[0]}", line).replace("&\\#36;", "&#36;"))


def fence(text: str, language: str) -> Markdown:
    """A code block that no run of backticks within ``text`` can close."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    ticks = "`" * max(3, longest + 1)
    return Markdown(f"{ticks}{language}\n{text.rstrip()}\n{ticks}")


def markdown_table(content: TextTable) -> Markdown:
    """A GitHub-flavoured table; figures stand to the right."""
    figures = len(content.columns) - content.heads
    rule = ["---"] * content.heads + (["---:"] if content.numeric else ["---"]) * figures
    lines = [content.columns, *content.rows]
    cells = [" | ".join(escape(cell) for cell in line) for line in lines]
    return Markdown("\n".join(f"| {line} |" for line in (cells[0], " | ".join(rule), *cells[1:])))
