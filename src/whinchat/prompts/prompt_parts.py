"""The strings around the text of a prompt, for exports that put prompts together themselves."""

from dataclasses import dataclass


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

    def prompt(self, text: str) -> str:
        """Return the prompt for a text that is not blank, cleaned, and with control tokens broken up."""
        text = text.lstrip() if self.strips_left else text
        return f"{self.before}{text.rstrip() if self.strips_right else text}{self.after}"
