"""The messages that the page on errors explains are those of the code."""

from __future__ import annotations

import ast
import re
from pathlib import Path

_ENTRY = re.compile(r"^### `(.+)`$", re.MULTILINE)
_GAP = "…"


def literals(source: Path) -> list[str]:
    """Return every string of a module, with ``…`` in place of what an f-string fills in."""
    texts = []
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr):
            parts = [str(part.value) if isinstance(part, ast.Constant) else _GAP for part in node.values]
            texts.append("".join(parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            texts.append(node.value)
    return texts


def is_part(message: str, text: str) -> bool:
    """Say whether the fixed parts of ``message`` stand in ``text``, in their order."""
    place = 0
    for part in filter(None, (part.strip() for part in message.split(_GAP))):
        found = text.find(part, place)
        if found < 0:
            return False
        place = found + len(part)
    return True


def test_every_explained_message_is_in_the_code(root: Path) -> None:
    messages = _ENTRY.findall((root / "docs" / "troubleshooting.md").read_text(encoding="utf-8"))
    texts = [text for source in (root / "src").rglob("*.py") for text in literals(source)]
    gone = [message for message in messages if not any(is_part(message, text) for text in texts)]
    assert len(messages) >= 20
    assert not gone, f"not in the code: {gone}"
