"""Texts with profanity are told from texts that merely look alike."""

from __future__ import annotations

import pytest

from whinchat.data.profanity import has_profanity


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Why do most hairdressers have such awful fucking haircuts ?", True),
        ("What the f*ck", True),
        ("this is Bullshit.", True),
        ("you SH!T", True),
        ("Kick his ass", True),
        ("@anonymous Thank you for the nice tweet :-)", False),
        ("The class assessed Scunthorpe's grass, and passed.", False),
        ("My cocktail, the documents, and f**", True),
        ("Grape juice from Dickens' house in Sussex", False),
    ],
)
def test_profanity(text: str, expected: bool) -> None:
    assert has_profanity(text) is expected
