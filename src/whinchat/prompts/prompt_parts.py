"""The strings around the text of a prompt, for exports that put prompts together themselves."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Self

_SLOT = "whinchat-text-slot"
# Texts that show what a chat template does to a text.
_TEXTS = (
    "word",
    "Two  Words",
    " \n both ends\t\n ",
    "  left",
    "right\n",
    "'{{ it }}' & <b>\\n</b>\n\nend.",
    "é😀",
)


@dataclass(frozen=True)
class PromptParts:
    """The strings around the text of a prompt, and what the chat template does to the text.

    Attributes:
        before: the string before the text.
        after: the string after the text.
        strips_left, strips_right: whether white space is stripped from the beginning and from the end of the text.
    """

    before: str
    after: str
    strips_left: bool
    strips_right: bool

    @classmethod
    def find(cls, render: Callable[[str], str]) -> Self | None:
        """Find the strings around a text, where ``render`` makes the prompt of a text.

        None where the chat template changes texts in another way than by stripping them.
        """
        before, slot, after = render(_SLOT).partition(_SLOT)
        if not slot or _SLOT in after:
            return None
        for strips in product((False, True), repeat=2):
            parts = cls(before, after, *strips)
            if all(render(text) == parts.prompt(text) for text in _TEXTS):
                return parts
        return None

    def prompt(self, text: str) -> str:
        """Return the prompt for a text that is not blank, cleaned, and with control tokens broken up."""
        text = text.lstrip() if self.strips_left else text
        return f"{self.before}{text.rstrip() if self.strips_right else text}{self.after}"
