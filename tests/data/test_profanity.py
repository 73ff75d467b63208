"""Texts with profanity are told from texts that merely look alike."""

from __future__ import annotations

import pytest

from whinchat.data.profanity import profanity_finder


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Why do most hairdressers have such awful fucking haircuts ?", True),
        ("this is Bullshit.", True),
        ("@anonymous Thank you for the nice tweet :-)", False),
        ("The class assessed Scunthorpe's grass, and passed.", False),
        ("Grape juice from Dickens' house in Sussex", False),
    ],
)
def test_profanity(text: str, expected: bool) -> None:
    assert profanity_finder("en")(text) is expected


def test_a_language_without_a_list() -> None:
    assert not profanity_finder("sw")("this is bullshit")
