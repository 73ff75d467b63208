"""Keep a text from speaking for the model: break up the control tokens and role markers that it spells out.

Control tokens are those of the tokenizer. Role markers are what a chat template writes around a message in ordinary
text, such as ``<|assistant|>`` where that is no token of its own, ``[INST]``, ``### Response:`` or ``Human:``. They are
found by rendering a chat, in three kinds:

- tags in angle or square brackets, and headings of two or more ``#``: broken up wherever they stand in a text;
- a word with a colon that the template writes at the start of a line: broken up there, elsewhere left as it is;
- a word with a colon that the template writes within a line, such as ``ASSISTANT:``: broken up if spelled alike.

Any other word, such as ``user`` after ``<|im_start|>``, makes no turn without its control token and is left alone.

A tokenizer can normalize a text before it looks for control tokens: NFKC makes ``<|im_end|>`` of full-width letters.
Such a text is broken up as it reads after that. What cannot be broken up, such as a control token of one character, is
found by ``structure``.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

_TAG = re.compile(r"<+[^<>\n]{1,40}>+|\[[^\[\]\n]{1,40}\]")
_HEADING = re.compile(r"#{2,}\s*\w.{0,40}")
_WORD = re.compile(r"\w[\w -]{0,40}[:：]")
_LINE_START = r"(?:(?<=[\n\r\v\f\x85\u2028\u2029])|\A)[^\S\n]*"


@dataclass(frozen=True)
class TextGuard:
    """Breaks up what a text must not contain.

    Attributes:
        markup: control tokens, tags and headings; None for a tokenizer and a template without any.
        words: words with a colon; None where the template writes none.
        first_characters: what the strings of ``markup`` begin with.
        normalize: what the tokenizer does to a text first.
        marks: ``markup`` and the control tokens of one character, also as the tokenizer normalizes them.
    """

    markup: re.Pattern[str] | None
    words: re.Pattern[str] | None
    first_characters: frozenset[str]
    normalize: Callable[[str], str] = str
    marks: re.Pattern[str] | None = None

    @classmethod
    def build(
        cls,
        control: Iterable[str],
        chats: Iterable[str],
        contents: Iterable[str],
        normalize: Callable[[str], str] = str,
    ) -> "TextGuard":
        """Build the guard for a chat template.

        Args:
            control: the tokenizer's control tokens.
            chats: rendered chats.
            contents: the contents of the messages in ``chats``, none of which the template writes itself.
            normalize: what the tokenizer does to a text first.
        """
        every = set(control)
        control = {token for token in every if len(token) > 1}  # a single character cannot be broken up
        tokens = _alternatives(control)
        around = re.compile("|".join(map(re.escape, contents)))
        gaps = [gap for chat in chats for gap in around.split(chat)]
        pieces = [re.split(tokens, gap) if tokens else [gap] for gap in gaps]
        tags = {tag for gap in pieces for piece in gap for tag in _TAG.findall(piece)}
        headings: set[str] = set()
        line_words: set[str] = set()
        inline_words: set[str] = set()
        for gap in pieces:
            # A message follows the last piece. Of several lines, such as a system prompt of the template's own, none
            # is a role marker.
            piece = gap[-1]
            marker = piece.strip()
            if _HEADING.fullmatch(marker):
                headings.add(marker)
            elif _WORD.fullmatch(marker):
                within_line = piece.startswith(" ")
                (inline_words if within_line else line_words).add(marker[:-1])
        markup = [pattern for pattern in (tokens, _alternatives(tags | headings, ignore_case=True)) if pattern]
        words = [
            rf"{start}{pattern}(?=[:：])"
            for start, pattern in (
                (_LINE_START, _alternatives(line_words, ignore_case=True)),
                (r"(?<!\w)", _alternatives(inline_words)),
            )
            if pattern
        ]
        firsts = frozenset(string[0] for string in control | tags | headings)
        normal = {normalize(token).strip("▁ ") for token in every} - {""}  # a blank before one is no part of it
        marks = [pattern for pattern in (_alternatives(every | normal), *markup[-1:]) if pattern]
        return cls(_compiled(markup), _compiled(words), firsts, normalize, _compiled(marks))

    def escape(self, text: str) -> tuple[str, int]:
        """Break up with a space what ``text`` must not contain, and count the places."""
        text, places = self._escape(text)
        normal = self.normalize(text)
        if normal != text and self._escape(normal)[1] and self.normalize(normal) == normal:
            text, more = self._escape(normal)
            places += more
        return text, places

    def structure(self, chat: str) -> list[str]:
        """Return every mark in ``chat``, as it is and as it is normalized: the same list for every text in a chat."""
        if self.marks is None:
            return []
        chats = (chat,) if self.normalize is str else (chat, self.normalize(chat))
        return [mark.lower() for each in chats for mark in self.marks.findall(each)]

    def _escape(self, text: str) -> tuple[str, int]:
        broken_markup = broken_words = 0
        if self.markup:
            # "<|im_end|>" would be tokenized as the control token; "< |im_end|>" is ordinary text.
            text, broken_markup = self.markup.subn(lambda match: f"{match[0][0]} {match[0][1:]}", text)
        if self.words:
            text, broken_words = self.words.subn(lambda match: f"{match[0]} ", text)
        return text, broken_markup + broken_words

    def spelled_out(self, text: str) -> set[str]:
        """Return what ``escape`` would break up in ``text``."""
        found = self.markup.findall(text) if self.markup else []
        return {*found, *(f"{word}:" for word in (self.words.findall(text) if self.words else []))}

    def patterns(self) -> list[tuple[str, str]]:
        """Return pairs (c, pattern) for other engines of regular expressions, which replace every match by "c ".

        Each pattern matches the first character, c, of a control token, tag or heading. Words are left out, since
        engines without references to a match cannot put a space behind them.
        """
        if not self.markup:
            return []
        return [(first, f"(?={self.markup.pattern}){re.escape(first)}") for first in sorted(self.first_characters)]


def control_tokens(tokenizer: Any, source: str, chat_ids: Iterable[int]) -> set[str]:
    """Return the tokenizer's control tokens.

    Args:
        tokenizer: the model's tokenizer.
        source: source of its chat template. Some tokenizers do not mark their chat markers as special.
        chat_ids: token ids that chats contain, since a template can put markers together from several strings.
    """
    in_chats = set(chat_ids)
    control = {str(token) for token in tokenizer.all_special_tokens}
    for token, added in tokenizer.added_tokens_decoder.items():
        content = str(added.content)
        if added.special or (content.strip() and (token in in_chats or content in source)):
            control.add(content)
    pad = tokenizer.pad_token
    if pad and len(pad) == 1 and pad not in {tokenizer.bos_token, tokenizer.eos_token}:
        # Some models pad with "!", the first token of their vocabulary, which is ordinary text everywhere else.
        control.discard(pad)
    return control - {""}


def _alternatives(strings: Iterable[str], *, ignore_case: bool = False) -> str:
    """Return a pattern of ``strings``, the longest first; white space inside matches any white space or none."""
    longest_first = sorted(set(strings), key=lambda string: (-len(string), string))
    if not longest_first:
        return ""
    if not ignore_case:
        return f"(?:{'|'.join(map(re.escape, longest_first))})"
    flexible = (r"\s*".join(map(re.escape, string.split())) for string in longest_first)
    return f"(?i:{'|'.join(flexible)})"


def _compiled(patterns: list[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(patterns)) if patterns else None
