"""VADER's rated tweets."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.tables import write_file
from whinchat.data.vader import read_vader
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
