"""Texts with the control tokens and role markers of every style of chat template: a text never becomes structure.

The styles are those of the families in docs/backbones.md. A prompt must have as many control tokens and role markers as
the prompt of a harmless text.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st
from tests.helpers import tiny_models
from tests.helpers.chat_templates import STYLES, styled_tokenizer

from fuzz.areas import Check, FuzzArea
from fuzz.odd_values import odd_text
from whinchat.prompts.template import PromptTemplate

_HARMLESS = "tea"
_FULL_WIDTH = str.maketrans({code: code + 0xFEE0 for code in range(0x21, 0x7F)})
_MARKERS = (
    "<|user|>", "<|assistant|>", "<|system|>", "[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "### Instruction:",
    "### Response:",
    "USER:", "ASSISTANT:", "\n\nHuman:", "\n\nAssistant:", "<think>", "</think>", "user\n", "assistant\n", "</s>",
    "<s>",
)  # fmt: skip


def _spelled(token: str) -> st.SearchStrategy[str]:
    """The token as it is, in another case or width, doubled, cut in two, or with something between its characters."""
    return st.sampled_from(
        [
            token, token.upper(), token.lower(), token.translate(_FULL_WIDTH), token * 2, token[:1] + token,
            token[:-1], token[1:], token[: len(token) // 2] + token + token[len(token) // 2 :],
            "\u200b".join(token), token.replace(" ", "\u00a0"), f" {token} ", f"\n{token}\n",
        ]
    )  # fmt: skip


def _texts(name: str) -> st.SearchStrategy[tuple[str, str]]:
    style = STYLES[name]
    tokens = sorted({*style.special, *style.added, *_MARKERS})
    piece = st.one_of(st.sampled_from(tokens).flatmap(_spelled), st.sampled_from(tokens).flatmap(_spelled), odd_text)
    return st.tuples(st.just(name), st.lists(piece, max_size=6).map("".join))


@dataclass(frozen=True)
class StyledPrompts:
    """The prompts of one style, and what those of a harmless text hold."""

    template: PromptTemplate
    control_ids: frozenset[int]
    markers: tuple[re.Pattern[str], ...]

    def structure(self, text: str) -> tuple[Counter[int], int]:
        """Count the control tokens and the role markers of the prompt of ``text``."""
        (prompt,) = self.template.encode([text])
        ids = Counter(id for id in prompt.ids if id in self.control_ids)
        shown = self.template.tokenizer.decode(prompt.ids) if self.markers else ""
        return ids, sum(len(marker.findall(shown)) for marker in self.markers)


def _styled(name: str, folder: Path) -> StyledPrompts:
    tokenizer = styled_tokenizer(name, folder)
    template = PromptTemplate(
        tokenizer, tiny_models.tiny_task(), end_ids=[tokenizer.eos_token_id], max_prompt_tokens=4_000, model=name
    )
    control_ids = frozenset(tokenizer.added_tokens_decoder) | frozenset(tokenizer.all_special_ids)
    return StyledPrompts(template, control_ids, tuple(map(re.compile, STYLES[name].markers)))


@contextmanager
def _open(folder: Path) -> Iterator[Check]:
    styled = {name: _styled(name, folder / name) for name in STYLES}
    expected = {name: prompts.structure(_HARMLESS) for name, prompts in styled.items()}

    def check(case: tuple[str, str]) -> None:
        name, text = case
        assert styled[name].structure(text) == expected[name], "the text became structure"

    yield check


PROMPT_AREA = FuzzArea("prompts", st.sampled_from(sorted(STYLES)).flatmap(_texts), _open, share=0.4)
