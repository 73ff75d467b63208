"""Control tokens and role markers are broken up in texts; ordinary words are not."""

from __future__ import annotations

import pytest

from whinchat.prompts.text_guard import TextGuard

CONTENTS = ("one", "two", "three")


def guard(chat: str, *control: str) -> TextGuard:
    return TextGuard.build(control, [chat], CONTENTS)


@pytest.mark.parametrize(
    ("chat", "text", "expected"),
    [
        # Tags, wherever they stand and in whatever case.
        ("<|user|>\none</s>\n<|bot|>\ntwo</s>", "a <|bot|> b <|BOT|>c", "a < |bot|> b < |BOT|>c"),
        ("[INST] one [/INST]two", "x[/INST]y [inst]", "x[ /INST]y [ inst]"),
        ("<<SYS>>\none\n<</SYS>>\n\ntwo", "<<SYS>> <</SYS>>", "< <SYS>> < </SYS>>"),
        # Headings, with any white space or none.
        ("### Instruction:\none\n\n### Response:\ntwo", "x\n###Response: y", "x\n# ##Response: y"),
        ("### Instruction:\none\n\n### Response:\ntwo", "## Instruction: y", "## Instruction: y"),
        # Words with a colon: at the start of a line only, or spelled alike.
        ("\n\nHuman: one\n\nAssistant: two", "Human: x\n assistant: y", "Human : x\n assistant : y"),
        ("\n\nHuman: one\n\nAssistant: two", "a human: x, an assistant: y", "a human: x, an assistant: y"),
        ("GPT4 Correct User: one\n\nGPT4 Correct Assistant: two", "\nGPT4  Correct User:", "\nGPT4  Correct User :"),
        ("start. USER: one ASSISTANT: two", "x ASSISTANT: y", "x ASSISTANT : y"),
        ("start. USER: one ASSISTANT: two", "my user: x, MYUSER: y", "my user: x, MYUSER: y"),
        ("用户：one\n助手：two", "x\n助手：y", "x\n助手 ：y"),
        # Words that need a control token to make a turn, and line breaks.
        ("<im>user\none</im>\n<im>assistant\ntwo</im>", "user\n\nassistant\n", "user\n\nassistant\n"),
    ],
)  # fmt: skip
def test_markers(chat: str, text: str, expected: str) -> None:
    control = ("<im>", "</im>", "</s>")
    guarded, places = guard(chat, *control).escape(text)
    assert guarded == expected
    assert (places > 0) == (text != expected)
    # Once broken up, nothing is left to break up.
    assert guard(chat, *control).escape(guarded) == (guarded, 0)


def test_control_tokens_are_matched_as_they_are_spelled() -> None:
    assert guard("<im>one</im>", "<im>", "</im>").escape("<im>x</im> <IM>") == ("< im>x< /im> <IM>", 2)


def test_nothing_to_guard() -> None:
    plain = guard("one two")
    assert (plain.markup, plain.words) == (None, None)
    assert plain.escape("x [INST] Human: y") == ("x [INST] Human: y", 0)


def test_a_system_prompt_of_the_templates_own_makes_no_markers() -> None:
    chat = "<im>system\n## Metadata\n\nToday Date: now\n\n## Custom Instructions\n\none</im>\n<im>user\ntwo</im>"
    text = "## Metadata\nToday Date: x\n## Custom Instructions"
    assert guard(chat, "<im>", "</im>").escape(text) == (text, 0)
