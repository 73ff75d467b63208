"""VADER's rated texts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.tables import write_file
from tests.helpers.vader_archive import COLLECTIONS, write_archive
from whinchat.data.vader import read_vader, read_vader_ratings
from whinchat.errors import DataError


def test_border(tmp_path: Path) -> None:
    path = write_file(tmp_path / "v.txt", "1\t0.5\ta\r\n2\t-0.5\tb\r\n3\t0.499\tc\td\r\n4\t-3\te")
    assert [(row.text, row.label) for row in read_vader(path)] == [
        ("a", "positive"),
        ("b", "negative"),
        ("c\td", "neutral"),
        ("e", "negative"),
    ]


def test_fault(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"v\.txt:2: found '2 0\.5 a'; each line must read ID<TAB>MEAN<TAB>TEXT"):
        read_vader(write_file(tmp_path / "v.txt", "1\t0.5\ta\n2 0.5 a\n"))


def test_ratings_are_counted_on_each_side_of_zero(tmp_path: Path) -> None:
    rows = read_vader_ratings(write_archive(tmp_path / "v.tar.gz"))
    assert len(rows) == 2 * len(COLLECTIONS)
    texts = {row.text: row.cells for row in rows}
    assert texts["tweets one\tend"] == (1, 2, 1)
    assert texts["amazonReviewSnippets “two”"] == (2, 0, 0)
    assert rows[3].where == f"{tmp_path / 'v.tar.gz'}: amazonReviewSnippets line 2"


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("tweets_GroundTruth.txt", None, r"v\.tar\.gz: tweets_GroundTruth\.txt is missing"),
        ("tweets_GroundTruth.txt", b"1\t0.5\n", r"tweets_GroundTruth\.txt:1: found '1\\t0\.5'; each line has three"),
        ("tweets_anonDataRatings.txt", b"1_1\t0\t[0]\n", r"tweets line 2: no list of ratings belongs to '1_2'"),
        ("tweets_anonDataRatings.txt", b"1_1\t0\tmany\n", r"tweets line 1: no list of ratings belongs to '1_1'"),
    ],
)
def test_faults_of_an_archive(tmp_path: Path, name: str, content: bytes | None, fault: str) -> None:
    with pytest.raises(DataError, match=fault):
        read_vader_ratings(write_archive(tmp_path / "v.tar.gz", {name: content}))
