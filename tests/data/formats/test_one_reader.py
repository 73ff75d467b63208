"""Training and prediction read a file alike, whatever wrote it; whatever its bytes are, no row is lost."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.tables import data_config, labelled_copy, locate_all, read_csv, write_file
from whinchat.data.formats import text_format
from whinchat.data.formats.table_format import TableFormat
from whinchat.data.formats.table_registry import find_table_format, open_table
from whinchat.errors import DataError

# Texts that are not blank; the characters that formats treat in a special way are frequent.
letters = st.characters(exclude_categories=["Cs"]) | st.sampled_from("\"',;\t\r\n7 =\u2028\ufeff")
texts = st.text(letters, min_size=1, max_size=12).filter(str.strip)
tables = st.lists(st.tuples(texts, st.sampled_from(["pos", "neg", "7"])), min_size=1, max_size=8)
writers = ["csv", "semicolons", "excel", "all quoted", "pandas", "tsv", "jsonl", "json ascii", "parquet"]


def write_table(folder: Path, writer: str, rows: list[tuple[str, str]]) -> Path:
    frame = pandas.DataFrame(rows, columns=["text", "class"])
    if writer == "parquet":
        frame.to_parquet(folder / "in.parquet")
        return folder / "in.parquet"
    if writer.startswith("json"):
        as_ascii = writer == "json ascii"
        lines = [json.dumps({"text": text, "class": label}, ensure_ascii=as_ascii) for text, label in rows]
        return write_file(folder / "in.jsonl", "\r\n".join(lines))
    if writer in {"pandas", "tsv"}:
        path = folder / ("in.tsv" if writer == "tsv" else "in.csv")
        frame.to_csv(path, index=False, sep="\t" if writer == "tsv" else ",")
        return path
    body = io.StringIO(newline="")
    quoting = csv.QUOTE_ALL if writer == "all quoted" else csv.QUOTE_MINIMAL
    delimiter = ";" if writer == "semicolons" else ","
    csv.writer(body, delimiter=delimiter, quoting=quoting).writerows([("text", "class"), *rows])
    mark = b"\xef\xbb\xbf" if writer == "excel" else b""
    return write_file(folder / "in.csv", mark + body.getvalue().encode())


def format_of(path: Path) -> type[TableFormat]:
    table_format = find_table_format(path)
    assert table_format is not None
    return table_format


def predicted_rows(path: Path, size: int = 3) -> list[tuple[str, str, int]]:
    """The text, the fault and the number of each row, as prediction reads them."""
    table = open_table(path, "text")
    blocks = [table.read_block(location) for location in locate_all(table, size)]
    return [row for block in blocks for row in zip(block.texts, block.faults, block.numbers, strict=True)]


@pytest.mark.parametrize("writer", writers)
@settings(max_examples=40, deadline=None)
@given(rows=tables, size=st.integers(1, 4))
def test_what_others_write(
    tmp_path_factory: pytest.TempPathFactory, writer: str, rows: list[tuple[str, str]], size: int
) -> None:
    path = write_table(tmp_path_factory.mktemp("tables"), writer, rows)
    predicted = predicted_rows(path, size)
    if any(fault for _, fault, _ in predicted):
        # Lines in one pair of quotes that could as well be rows of their own, or "\r" without quotes, as Python writes
        # it where lines end in "\n" alone. Training says so, too.
        assert path.suffix in {".csv", ".tsv"}
        with pytest.raises(DataError, match=r"in\..sv:\d+: a (quote is opened and not|carriage return)"):
            format_of(path).read_labelled_rows(path, data_config(label_column="class"))
        return
    trained = format_of(path).read_labelled_rows(path, data_config(label_column="class"))
    assert [(row.text, row.label) for row in trained] == rows
    assert [(text, number) for text, _, number in predicted] == [(row.text, row.number) for row in trained]
    labelled = labelled_copy(path, size)
    if path.suffix == ".csv":
        delimiter = ";" if writer == "semicolons" else ","
        assert [tuple(row[:2]) for row in read_csv(labelled, delimiter)[1:]] == rows


pieces = st.sampled_from(
    [b'"', b'""', b",", b"\t", b"\n", b"\r\n", b"\r", b"a", b"7", b"\xe9", b"\x00", b"{", b"}", b" "]
)


@pytest.mark.parametrize(("name", "header"), [("in.csv", b"text,id\n"), ("in.tsv", b"id\ttext\n"), ("in.jsonl", b"")])
@settings(max_examples=300, deadline=None)
@given(body=st.lists(pieces, max_size=30).map(b"".join), size=st.integers(1, 3))
def test_any_bytes(tmp_path_factory: pytest.TempPathFactory, name: str, header: bytes, body: bytes, size: int) -> None:
    path = write_file(tmp_path_factory.mktemp("bytes") / name, header + body)
    predicted = predicted_rows(path, size)
    # Every line belongs to one row, or is blank.
    whole = header + body
    mac_lines = re.match(rb"[^\r\n]*\r(?!\n)", whole)
    lines = whole.splitlines(keepends=True) if mac_lines else io.BytesIO(whole).readlines()
    starts = [number for _, _, number in predicted]
    assert starts == sorted(set(starts))
    white_space = " \t\r\n" if name == "in.jsonl" else "\r\n"
    if name == "in.jsonl":
        assert starts == [at for at, line in enumerate(lines, 1) if line.strip(white_space.encode())]
    else:
        filled = {at for at, line in enumerate(lines, 1) if at > 1 and line.strip(white_space.encode())}
        for start, end in pairwise([*starts, len(lines) + 1]):
            joined = lines[start - 1 : end - 1]
            filled -= set(range(start, end))
            # Only a quoted field joins lines. A quote inside an unquoted field counts for nothing.
            assert len([line for line in joined if line.strip(b"\r\n")]) == 1 or b'"' in joined[0]
        assert not filled
    out = labelled_copy(path, size)
    if name == "in.jsonl":
        assert len([json.loads(line) for line in out.read_bytes().splitlines()]) == len(predicted)
    else:
        with out.open(encoding="utf-8", newline="") as file:
            found = list(csv.reader(file, delimiter="\t" if name == "in.tsv" else ",", strict=True))
        assert len(found) == len(predicted) + 1
        assert {len(row) for row in found} == {6}


@pytest.mark.parametrize(
    ("name", "body", "rows"),
    [
        ("in.csv", "id, text, class\n1, row a, bad\n2, row b, fine\n", [(" row a", " bad", 2), (" row b", " fine", 3)]),
        ("in.csv", "text,class\ra,b\rc,d\r", [("a", "b", 2), ("c", "d", 3)]),
        ("in.csv", 'text,class\r\n"a\rb",b\nc,d\n\ne,f', [("a\rb", "b", 2), ("c", "d", 3), ("e", "f", 5)]),
        ("in.csv", "\ufeff\n\ntext,class\na,b\n", [("a", "b", 4)]),
        ("in.CSV", "text,class\na\u2028\x0b\x85b,b\n", [("a\u2028\x0b\x85b", "b", 2)]),
        ("in.tsv", "class\ttext\nb\ta, c\n", [("a, c", "b", 2)]),
        ("in.ndjson", '\ufeff{"text": "a", "class": "b"}\r\r{"text": "c", "class": 1}', [("a", "b", 1), ("c", "1", 3)]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("compressed", [False, True])
def test_ways_to_write_a_table(
    tmp_path: Path, name: str, body: str, rows: list[tuple[str, str, int]], compressed: bool
) -> None:
    path = write_file(tmp_path / name, body)
    if compressed:
        path = write_file(tmp_path / f"{name}.gz", gzip.compress(path.read_bytes()))
    trained = format_of(path).read_labelled_rows(path, data_config(label_column="class"))
    assert [(row.text, row.label, row.number) for row in trained] == rows
    assert predicted_rows(path, 1) == [(text, "", number) for text, _, number in rows]
    out = labelled_copy(path, 1).read_bytes()
    assert (gzip.decompress(out) if compressed else out).decode().count("false") == len(rows)


def test_blocks_of_a_compressed_table_in_any_order(tmp_path: Path) -> None:
    body = "text\n" + "".join(f"text {at}\n" for at in range(30))
    table = open_table(write_file(tmp_path / "in.csv.gz", gzip.compress(body.encode())), "text")
    locations = locate_all(table, 4)
    for location in [*locations[::2], *reversed(locations)]:
        first = 4 * location.number
        assert table.read_block(location).texts == tuple(f"text {at}" for at in range(first, first + location.rows))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"text\na\n", r"in\.csv\.gz: cannot be decompressed \(Not a gzipped file"),
        (
            gzip.compress(b"text\n" + b"a\n" * 1000, mtime=0)[:-20],
            r"in\.csv\.gz: cannot be decompressed \(Compressed file ended",
        ),
        (
            gzip.compress(b"text\n" + b"\n" * 900_000, mtime=0),
            r"looks like a decompression bomb; .* decompress it first",
        ),
        (
            gzip.compress(b"text\n" + b"a" * 300_000, mtime=0),
            r"in\.csv\.gz:2: the line is longer than 100,000 bytes; split or",
        ),
    ],
)
def test_damaged_or_hostile_compression(
    tmp_path: Path, content: bytes, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_format, "_ANY_EXPANSION_BYTES", 400_000)
    monkeypatch.setattr(text_format, "MAX_LINE_BYTES", 100_000)
    path = write_file(tmp_path / "in.csv.gz", content)
    for read in (
        lambda: predicted_rows(path),
        lambda: format_of(path).read_labelled_rows(path, data_config(label_column="text")),
    ):
        with pytest.raises(DataError, match=message):
            read()


def test_a_chunk_may_end_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_format, "_CHUNK_BYTES", 3)
    body = '\ufefftext,label\r\n"a\r\nb",x\r\n\r\n\nc\u00e9\u2028d,y\n\ufeffe,z'
    path = write_file(tmp_path / "in.csv", body)
    expected = [("a\r\nb", "x", 2), ("cé\u2028d", "y", 6), ("\ufeffe", "z", 7)]
    assert [
        (row.text, row.label, row.number) for row in format_of(path).read_labelled_rows(path, data_config())
    ] == expected
    assert predicted_rows(path, 2) == [(text, "", number) for text, _, number in expected]


@pytest.mark.parametrize("kept", [b"text\na\n", b"text\na\nb\n"], ids=["within a block", "between blocks"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_file_that_changes_while_it_is_read(tmp_path: Path, suffix: str, kept: bytes) -> None:
    def written(content: bytes) -> Path:
        return write_file(tmp_path / f"in.csv{suffix}", gzip.compress(content) if suffix else content)

    table = open_table(written(b"text\na\nb\nc\nd\n"), "text")
    *_, location = locate_all(table, 2)
    written(kept)
    with pytest.raises(DataError, match="was changed while it was read"):
        table.read_block(location)


def missing_labels() -> list[tuple[Any, str]]:
    return [(None, ""), (float("nan"), ""), (1.0, "1.0"), (2, "2"), (True, "true"), ("", "")]


@pytest.mark.parametrize(("value", "spelling"), missing_labels())
def test_label_cells(tmp_path: Path, value: object, spelling: str) -> None:
    path = tmp_path / "in.parquet"
    pandas.DataFrame({"text": ["a"], "label": [value]}).to_parquet(path)
    assert format_of(path).read_labelled_rows(path, data_config())[0].label == spelling


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (b"bad", "a bytes"),
        (pandas.Timestamp("2026-01-02"), "a "),
        (["a"], "a list"),
        (float("inf"), "inf, which is no"),
    ],
)
def test_cells_that_are_no_labels(tmp_path: Path, value: object, kind: str) -> None:
    path = tmp_path / "in.parquet"
    pandas.DataFrame({"text": ["a"], "label": [value]}).to_parquet(path)
    with pytest.raises(DataError, match=rf"in\.parquet row 1: 'label' holds {kind}"):
        format_of(path).read_labelled_rows(path, data_config())
