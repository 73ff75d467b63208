"""Tweets of CrowdFlower's judges."""

from __future__ import annotations

from pathlib import Path

import pytest

from whinchat.data.crowd import read_crowd_tweets
from whinchat.errors import DataError


def test_shares_and_lost_characters(tmp_path: Path) -> None:
    path = tmp_path / "crowd.csv"
    lines = (
        b"sentiment,confidence,text",
        b"negative,0.7,I don\xd5\xaat like \x89\xdb_\x89\xdb_ it",
        b'neutral,,"one, two"',
        b"positive,0.4,  nice \x89\xdb_",
    )
    path.write_bytes(b"\r\n".join(lines))
    rows = read_crowd_tweets(path)
    assert [row.text for row in rows] == ["I don't like it", "one, two", "nice"]
    assert rows[0].cells == pytest.approx((0.7, 0.15, 0.15))
    assert rows[1].cells == (0, 1, 0)
    assert rows[2].cells == pytest.approx((0.3, 0.3, 0.4))
    assert rows[2].where == f"{path}: row 3"


@pytest.mark.parametrize("line", ["good,0.5,a", "neutral,many,a", "neutral,0.5"])
def test_a_line_of_another_kind(tmp_path: Path, line: str) -> None:
    path = tmp_path / "crowd.csv"
    path.write_text(f"sentiment,confidence,text\nneutral,1,a\n{line}\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"crowd\.csv: row 2: found .*; each must be SIDE,AGREEMENT,TEXT"):
        read_crowd_tweets(path)
