"""Strategies of values and bytes that have broken programs before."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

ODD_TEXTS = (
    "", " ", "\x00", "\x1b[2J", "\ud800", "\ufeff", "\u202e", "\u2028", "\r", "\r\n", "\t", '"', "'", "\\", "`",
    ",", ";",
    "|", "=1+1", "@SUM(1)", "NaN", "nan", "None", "null", "true", "no", "inf", "-inf", "1e309", "0x10", "1_000",
    "2026-01-01",
    "é", "e\u0301", "ﬁ", "İ", "ß", "日本語", "👩‍👩‍👧", "🏳️‍🌈", "a" * 300, "{text}", "{{7*7}}", "{% raw %}", "%s%n",
    "../../x", "/dev/zero",
    "<script>", "]]>", "&amp;", "$(id)", "javascript:alert(1)",
)  # fmt: skip
odd_text = st.one_of(st.sampled_from(ODD_TEXTS), st.text(max_size=20))
odd_number = st.one_of(
    st.integers(),
    st.sampled_from([0, -1, 2**31, 2**63, 2**64, 10**400, -(10**30)]),
    st.floats(allow_nan=True, allow_infinity=True),
)
odd_value: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), odd_number, odd_text),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(odd_text, inner, max_size=3)),
    max_leaves=6,
)


@st.composite
def damaged(draw: st.DrawFn, whole: st.SearchStrategy[bytes], pieces: tuple[bytes, ...]) -> bytes:
    """Bytes of ``whole`` with up to four cuts, repeats, flips or insertions, of ``pieces`` or at random."""
    content = bytearray(draw(whole))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(content)))
        change = draw(st.sampled_from(["insert", "random", "cut", "repeat", "flip"]))
        span = draw(st.integers(1, 12))
        if change == "insert":
            content[at:at] = draw(st.sampled_from(pieces))
        elif change == "random":
            content[at:at] = draw(st.binary(min_size=1, max_size=8))
        elif change == "cut":
            del content[at : at + span]
        elif change == "repeat":
            content[at:at] = content[at : at + span] * draw(st.integers(1, 20))
        elif at < len(content):
            content[at] ^= 1 << draw(st.integers(0, 7))
    return bytes(content)
