"""Tables opened by their suffix."""

from __future__ import annotations

from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from tests.helpers.tables import COLUMN_TYPES, labelled_copy
from whinchat.data.formats.table_registry import open_table
from whinchat.errors import DataError


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_no_rows(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"in{suffix}"
    if suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.table({"text": pyarrow.array([], pyarrow.string())}), path)
    else:
        path.write_text("text\n" if suffix == ".csv" else "", encoding="utf-8")
    out = labelled_copy(path)
    if suffix == ".parquet":
        assert pyarrow.parquet.read_schema(out).names == ["text", *COLUMN_TYPES]
    else:
        assert out.read_text(encoding="utf-8") == ("text,label,unsure,p_a,error\n" if suffix == ".csv" else "")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("in.csv", "id,words\n1,a\n", "no column 'text'.*--text-column"),
        ("in.csv", "", "the file is empty"),
        ("in.csv", "\ufeff", "the file is empty"),
        ("in.csv", "id|text\n1|a\n", r"the header 'id\|text' is not separated by commas"),
        ("in.csv", "id,text,text\n1,a,b\n", "2 columns are called 'text'"),
        ("in.csv", '"text\na\n', r"in\.csv:1: the header cannot be read: a quote is opened and not closed"),
        ("in.csv", b"te\xe9t\na\n", r"in\.csv:1: the header cannot be read: not UTF-8 \(byte 0xe9\); convert"),
        ("in.csv", "text\na\n".encode("utf-16"), r"in\.csv: is UTF-16, not UTF-8; convert .* -f utf-16"),
        ("in.parquet.gz", "?", r"is not a table that whinchat can read; give a \.csv"),
        ("in.xlsx", "?", "is not a table that whinchat can read; save it as CSV"),
        ("in.parquet", "no", "cannot be read as Parquet"),
    ],
)
def test_what_cannot_be_labelled(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message):
        open_table(tmp_path / name, "text")
    with pytest.raises(DataError, match="no such file"):
        open_table(tmp_path / "none.csv", "text")
