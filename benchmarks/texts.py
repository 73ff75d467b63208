"""Texts of a wanted number of tokens."""

from __future__ import annotations

from typing import Any

from whinchat.data.dataset import Split


def cut_to_tokens(split: Split, tokens: int, tokenizer: Any) -> Split:
    """Each text with the following ones joined to it until it is long enough, cut to ``tokens`` tokens.

    The cut falls between two tokens of the joined text, so a text may come out a token or two longer where its end
    is tokenized differently alone.
    """
    count = len(split)
    texts = []
    for row in range(count):
        joined, ends = "", []
        for step in range(row, row + 1 + tokens):
            joined = f"{joined} {split.texts[step % count]}".strip()
            ends = tokenizer(joined, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
            if len(ends) >= tokens:
                break
        texts.append(joined[: ends[tokens - 1][1]] if len(ends) >= tokens else joined)
    return Split(split.name, tuple(texts), split.labels)
