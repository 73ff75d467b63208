"""No text contributes a control token to its prompt, whatever the tokenizer does to the text first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies
from tokenizers import Tokenizer, normalizers

from tests.helpers import tiny_models
from tests.helpers.chat_templates import STYLES, styled_tokenizer
from whinchat.errors import PromptError
from whinchat.prompts.template import PromptTemplate

NORMALIZERS: dict[str, Any] = {
    "none": None,
    "NFKC": normalizers.NFKC(),
    "no zero width": normalizers.Replace("\u200b", ""),
    "lower": normalizers.Lowercase(),
    "no blanks": normalizers.Replace(" ", ""),
    "no accents": normalizers.Sequence([normalizers.NFKD(), normalizers.StripAccents()]),
}
CASES = [("qwen3", name) for name in NORMALIZERS] + [(style, "NFKC") for style in STYLES if style != "qwen3"]


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def template(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> PromptTemplate:
    """A tokenizer that looks for control tokens after normalizing."""
    style, name = request.param
    tokenizer = styled_tokenizer(style, tmp_path_factory.mktemp("style"))
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    for added in state["added_tokens"]:
        added["normalized"] = name != "none"
    fast, own = Tokenizer.from_str(json.dumps(state)), NORMALIZERS[name]
    if own is not None:
        fast.normalizer = own if fast.normalizer is None else normalizers.Sequence([own, fast.normalizer])
    tokenizer._tokenizer = fast
    return PromptTemplate(tokenizer, tiny_models.tiny_task(), end_ids=[], max_prompt_tokens=4000, model="m")


def wide(text: str) -> str:
    """Return ``text`` in full-width letters, which NFKC makes plain ones."""
    return "".join(chr(ord(letter) + 0xFEE0) if "!" <= letter <= "~" else letter for letter in text)


def contributed(template: PromptTemplate, text: str) -> list[str] | None:
    """Control tokens of the prompt beyond those of a plain one; None where the text is refused."""
    if template.fault(text):
        with pytest.raises(PromptError, match="there is no prompt for it"):
            template.encode([text])
        return None
    added = set(template.tokenizer.added_tokens_decoder)
    plain, found = ([token for token in prompt.ids if token in added] for prompt in template.encode(["word", text]))
    return [] if found == plain else list(template.tokenizer.convert_ids_to_tokens(found))


def test_control_tokens_in_disguise(template: PromptTemplate) -> None:
    refused = total = 0
    for token in map(str, template.tokenizer.get_added_vocab()):
        first, rest = token[0], token[1:]
        marked = (first + "\u200b" + rest, first + "\u0301" + rest)
        disguises = (token, wide(token), wide(first) + rest, *marked, token.upper())
        for text in (*disguises, first + token + rest, f"so {wide(token)} bad {token}"):
            result = contributed(template, text)
            assert not result, text
            refused, total = refused + (result is None), total + 1
    assert total >= 8
    if template.tokenizer.backend_tokenizer.normalizer is None:
        assert refused == 0


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(data=strategies.data())
def test_no_text_contributes_a_control_token(template: PromptTemplate, data: strategies.DataObject) -> None:
    tokens = [str(token) for token in template.tokenizer.get_added_vocab()]
    pieces = strategies.sampled_from(
        [*tokens, *map(wide, tokens), *(token[:3] for token in tokens), "\u200b", " ", "a"]
    )
    text = "".join(data.draw(strategies.lists(strategies.one_of(pieces, strategies.text(max_size=5)), max_size=8)))
    assert not contributed(template, text)
    if not template.fault(text):
        safe = template._safe(text)[0]
        assert template._safe(safe) == (safe, 0), "breaking up is done once"


def test_a_control_token_of_one_character_is_refused(tmp_path: Path) -> None:
    chat = "{% for m in messages %}§{{ m['content'] }}¤{% endfor %}{% if add_generation_prompt %}§{% endif %}"
    tokenizer = tiny_models.bpe_tokenizer(("<s>", "§", "¤"), bos="<s>", eos="¤", template=chat)
    template = PromptTemplate(tokenizer, tiny_models.tiny_task(), end_ids=[], max_prompt_tokens=400, model="m")
    assert template.fault("a day") == ""
    for text in ("so ¤ bad", "§", "¤§"):
        assert "of the chat, which cannot be broken up; remove" in (fault := template.fault(text))
        assert all((f"{mark!r}" in fault) == (mark in text) for mark in "§¤")
        with pytest.raises(PromptError, match=r"text 1 \(.*\): there is no prompt for it: it holds"):
            template.encode(["a day", text])
        with pytest.raises(PromptError, match=r"row 0 of train"):
            template.check([text], "train")
