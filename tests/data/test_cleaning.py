"""Each cleaning step alone, on texts as TweetEval and VADER hold them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers import tiny_models
from whinchat.data.cleaning import clean
from whinchat.recipe.task import Cleaning


@pytest.mark.parametrize(
    ("step", "text", "cleaned"),
    [
        ("json_escapes", r"I\u2019m at 7\u002c 8", "I’m at 7, 8"),
        ("json_escapes", r"fun \ud83d\ude00!", "fun 😀!"),
        ("json_escapes", r"half \ud83d here", "half � here"),
        ("json_escapes", r'"\""@user: no\""', '"@user: no"'),
        ("json_escapes", r"C:\users \u12", r"C:\users \u12"),
        ("json_escapes", r"me: no\n\nyou:\tyes", "me: no\n\nyou:\tyes"),
        ("html_entities", "Tom &amp; Jerry &lt;3 &#39;", "Tom & Jerry <3 '"),
        ("spaces", " a\t b\n\nc ", "a b c"),
        (
            "mentions",
            ".@Moz, @user and @u_1: ask me@example.com @ 7",
            ".@user, @user and @user: ask me@example.com @ 7",
        ),
        ("mentions", "@taroさん今日は最悪 @नमस्ते", "@userさん今日は最悪 @नमस्ते"),
        ("links", "HTTPS://t.co/aB?c=1&d#e see (http://x.org) or http", "http see (http) or http"),
        ("links", "https://t.co/abc本当にひどい", "http本当にひどい"),
        ("links", '<a href="https://x.com/a">terrible</a>', '<a href="http">terrible</a>'),
        ("links", "[great](https://x.com)but**awful**.", "[great](http)but**awful**."),
        ("links", r"https://a.b\nbad", r"http\nbad"),
    ],
)
def test_steps(step: Cleaning, text: str, cleaned: str) -> None:
    assert clean(text, [step]) == cleaned
    assert clean(text, []) == text


def test_prompts_hold_the_cleaned_text(tiny_llama: Path) -> None:
    loaded = tiny_models.load(tiny_llama)
    plain = tiny_models.engine_of(loaded).template
    cleaning = tiny_models.engine_of(loaded, clean=("html_entities", "spaces")).template
    assert cleaning.encode(["Tom &amp;  Jerry"]) == plain.encode(["Tom & Jerry"])
