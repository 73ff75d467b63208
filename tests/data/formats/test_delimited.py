"""CSV and TSV: strict for training; for prediction no row is lost or moved, and a broken one says why."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.tables import COLUMN_TYPES, data_config, labelled_copy, locate_all, read_csv, write_file
from whinchat.data.formats.delimited import CsvFormat, TsvFormat
from whinchat.data.formats.table_registry import open_table
from whinchat.errors import DataError

cells = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from('",\t\r\n7'), max_size=12)


def test_labelled_rows_with_quoted_line_breaks(tmp_path: Path) -> None:
    body = 'label,text\npos,"two\nlines, ""quoted"""\n\nneg,a\u2028b\n'
    rows = CsvFormat.read_labelled_rows(write_file(tmp_path / "my.csv", body), data_config())
    assert [row.text for row in rows] == ['two\nlines, "quoted"', "a\u2028b"]
    assert [row.where for row in rows] == [f"{tmp_path}/my.csv:2", f"{tmp_path}/my.csv:5"]


def test_labelled_rows_of_tsv_with_bom_and_crlf(tmp_path: Path) -> None:
    rows = TsvFormat.read_labelled_rows(
        write_file(tmp_path / "my.tsv", b"\xef\xbb\xbftext\tlabel\r\na, b\tpos\r\n"), data_config()
    )
    assert [(row.text, row.label) for row in rows] == [("a, b", "pos")]


def test_labelled_rows_of_other_columns(tmp_path: Path) -> None:
    path = write_file(tmp_path / "my.csv", "id,tweet,class\n1,hello,pos\n")
    row = CsvFormat.read_labelled_rows(path, data_config(text_column="tweet", label_column="class"))[0]
    assert (row.text, row.label) == ("hello", "pos")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("texts,label\na,b\n", r"my\.csv: no column 'text'; did you mean texts\? Columns found: texts, label\. "
         r"Name the right one with data\.text_column"),
        ("text,foo\na,b\n", r"no column 'label'\. Columns found: text, foo\. .* data\.label_column"),
        ("text,label,text\na,b,c\n", r"2 columns are called 'text'; rename all but one"),
        ("text|label\na|b\n", r"my\.csv:1: the header 'text\|label' is not separated by commas"),
        ("text;label\na;b\nc, d\n", r"my\.csv:3: 1 fields, the header has 2"),
        ("text,label\na,b\na,b,c\n", r'my\.csv:3: 3 fields, the header has 2: \["c"\]; put a text with'),
        ('text,label\na,b\n"open,b\n', r"my\.csv:3: a quote is opened and not closed .*; put a text with"),
        ('text,label\na,b\n"an "inner" quote",b\n', r"my\.csv:3: a quote is closed before the end of its field; put"),
        ("text,label\n", r"my\.csv: has no rows"),
        ("", r"my\.csv: the file is empty"),
        (b"text,label\nfine,pos\ncaf\xe9,pos\n", r"my\.csv:3: not UTF-8 \(byte 0xe9\); convert "
         r".*iconv -f windows-1252 -t utf-8 my\.csv"),
        ("text,label\na,b\n".encode("utf-16"), r"my\.csv: is UTF-16, not UTF-8; .*iconv -f utf-16"),
    ],
)  # fmt: skip
def test_what_training_refuses(tmp_path: Path, body: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        CsvFormat.read_labelled_rows(write_file(tmp_path / "my.csv", body), data_config())


@given(st.lists(st.tuples(cells, cells), max_size=12), st.integers(1, 5))
def test_csv_comes_back_row_by_row(tmp_path_factory: pytest.TempPathFactory, rows: list[Any], size: int) -> None:
    path = tmp_path_factory.mktemp("csv") / "in.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("id", "text"), *rows])
    table = open_table(path, "text")
    blocks = [table.read_block(place) for place in locate_all(table, size)]
    assert [list(row) for block in blocks for row in block.rows] == [list(row) for row in rows]
    assert [text for block in blocks for text in block.texts] == [text if text.strip() else "" for _, text in rows]
    found = read_csv(labelled_copy(path, size))
    assert found[0] == ["id", "text", *COLUMN_TYPES]
    assert [row[:2] for row in found[1:]] == [list(row) for row in rows]
    assert [row[2:] for row in found[1:]] == [
        ["a", "false", "0.25", ""] if text.strip() else ["", "", "", "'text' holds nothing"] for _, text in rows
    ]


def test_a_table_with_semicolons_keeps_them(tmp_path: Path) -> None:
    path = write_file(tmp_path / "in.csv", 'id;text\n1;a, b\n2;"c;d"\n')
    assert labelled_copy(path).read_text(encoding="utf-8").splitlines() == [
        ";".join(["id;text", *COLUMN_TYPES]), "1;a, b;a;false;0.25;", '2;"c;d";a;false;0.25;',
    ]  # fmt: skip


def test_broken_csv_rows_keep_their_place(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes(
        b'\xef\xbb\xbfid,text\n1,good\n2\n3,too,many,"fi,elds"\n\n4,caf\xe9\n5,a\rb\n6,"two\nlines"\n7,last'
    )
    out = read_csv(labelled_copy(path))
    assert out[0] == ["id", "text", *COLUMN_TYPES]
    assert [row[:2] for row in out[1:]] == [
        ["1", "good"], ["2", ""], ["3", "too"], ["4", "caf\\xe9"], ["5", "a\rb"], ["6", "two\nlines"],
        ["7", "last"],
    ]  # fmt: skip
    assert [row[2] for row in out[1:]] == ["a", "", "", "", "", "a", "a"]
    faults = [row[5] for row in out[1:]]
    assert faults[1] == "1 fields, the header has 2"
    assert faults[2] == '4 fields, the header has 2: ["many", "fi,elds"]'
    assert faults[3] == "not UTF-8 (byte 0xe9)"
    assert faults[4] == "a carriage return stands outside of quotes"
    assert not faults[5]


UNCLOSED = "a quote is opened and not closed at the end of a field"
MISPLACED = "a quote is closed before the end of its field"


@pytest.mark.parametrize(
    ("name", "body", "texts", "faults"),
    [
        ("in.csv", 'first\n"second\nthird\nthe "fourth" one\nfifth\n', ["first", '"second', "third", 'the "fourth" one',
         "fifth"], {1: UNCLOSED}),
        ("in.csv", 'a\n"he said "hi" to me"\nb\n', ["a", '"he said "hi" to me"', "b"], {1: MISPLACED}),
        ("in.csv", 'a\n"b\n', ["a", '"b'], {1: UNCLOSED}),
        ("in.csv", '"a\n"b\n"c\n', ['"a', '"b', '"c'], {0: UNCLOSED, 1: UNCLOSED, 2: UNCLOSED}),
        ("in.csv", '"a ""b""\n\nc"\nd\n', ['a "b"\n\nc', "d"], {}),
        ("in.tsv", '1\t"second\n2\tthird\n3\tthe end"\n', ['"second', "third", 'the end"'], {0: UNCLOSED}),
        ("in.tsv", '1\t"two\nlines"\n2\tx\n', ["two\nlines", "x"], {}),
        ("in.csv", '1,"second\n2,third\n3,the end"\n', ['"second', "third", 'the end"'], {0: UNCLOSED}),
        ("in.csv", '1,"Dear Ann,\nthanks, bye"\n2,x\n', ["Dear Ann,\nthanks, bye", "x"], {}),
    ],
)  # fmt: skip
def test_no_line_is_swallowed_by_a_quote(
    tmp_path: Path, name: str, body: str, texts: list[str], faults: dict[int, str]
) -> None:
    delimiter = "\t" if name.endswith("tsv") else ","
    header = f"id{delimiter}text" if delimiter in body.splitlines()[0] else "text"
    path = write_file(tmp_path / name, f"{header}\n{body}")
    labelled_copy(path)
    with (tmp_path / f"out{path.suffix}").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter=delimiter, strict=True))
    assert [row["text"] for row in rows] == texts
    assert {index: row["error"] for index, row in enumerate(rows) if row["error"]} == faults
    assert [row["label"] for row in rows] == ["" if index in faults else "a" for index in range(len(texts))]


def test_an_open_quote_does_not_take_the_rest_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    rest = "".join(f"{at},{'x' * 1000}\n" for at in range(3000))
    path.write_text(f'id,text\n1,"open\n{rest}', encoding="utf-8")
    table = open_table(path, "text")
    places = locate_all(table, 1000)
    assert sum(place.rows for place in places) == 3001
    first = table.read_block(places[0])
    assert (first.rows[0], first.faults[0]) == (["1", '"open'], UNCLOSED)
    assert not any(first.faults[1:])


def test_time_for_open_quotes_is_bounded(tmp_path: Path) -> None:
    # Inside and outside of quotes, such a line ends within quotes: each alone would take in all others.
    table = open_table(write_file(tmp_path / "in.csv", "id,text\n" + 'a",""",x\n' * 20_000), "text")
    blocks = [table.read_block(place) for place in locate_all(table, 7)]
    assert sum(len(block.rows) for block in blocks) == 20_000
    assert all(UNCLOSED in fault for block in blocks for fault in block.faults)


def test_one_long_field(tmp_path: Path) -> None:
    text = "word " * 30_000
    path = write_file(tmp_path / "in.csv", f"text,label\n{text},b\n")
    assert CsvFormat.read_labelled_rows(path, data_config())[0].text == text
    assert open_table(path, "text").read_block(locate_all(open_table(path, "text"), 1)[0]).texts == (text,)


@pytest.mark.parametrize(
    "cell", ["=1+1", "+1", "-1", "@x", "\tx", "\rx", '=a"b,c', "", "x=1"]
)  # fmt: skip
def test_formulas_are_quoted_when_asked_for(tmp_path: Path, cell: str) -> None:
    path = tmp_path / "in.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("=id", "text"), (cell, "a")])
    for escape, expected in ((False, cell), (True, f"'{cell}" if cell and cell[0] in "=+-@\t\r" else cell)):
        header, row = read_csv(labelled_copy(path, escape_formulas=escape))
        assert row[:2] == [expected, "a"]
        assert header[0] == ("'=id" if escape else "=id")


def test_tabs(tmp_path: Path) -> None:
    path = tmp_path / "in.tsv"
    path.write_text('text\tid\na, b\t1\n"c\td"\t2\n', encoding="utf-8")
    assert labelled_copy(path).read_text(encoding="utf-8") == (
        'text\tid\tlabel\tunsure\tp_a\terror\na, b\t1\ta\tfalse\t0.25\t\n"c\td"\t2\ta\tfalse\t0.25\t\n'
    )


def test_a_header_is_repeated_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "in.CSV"
    path.write_bytes(b"\xef\xbb\xbf\r\n id,text ,id\r\n1,a,2\r\n")
    assert labelled_copy(path).read_text(encoding="utf-8") == (
        " id,text ,id,label,unsure,p_a,error\n1,a,2,a,false,0.25,\n"
    )


def test_blocks_are_found_by_their_place_alone(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    body = io.StringIO()
    csv.writer(body, lineterminator="\r\n").writerows([("text",), *((f"line\n{at}",) for at in range(10))])
    path.write_text(body.getvalue(), encoding="utf-8", newline="")
    table = open_table(path, "text")
    last = locate_all(table, 3)[-1]
    assert (last.number, last.rows) == (3, 1)
    assert open_table(path, "text").read_block(last).texts == ("line\n9",)


def test_training_names_all_rows_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "my.csv"
    path.write_text("text,label\n" + "a,b,c\n" * 3 + "good,x\n" + "d\n" * 4, encoding="utf-8")
    with pytest.raises(DataError) as hit:
        CsvFormat.read_labelled_rows(path, data_config())
    assert [line.partition(": ")[0] for line in hit.value.faults] == [
        f"{path}:2", f"{path}:3", f"{path}:4", f"{path}:6", f"{path}:7", str(path)
    ]  # fmt: skip
    assert hit.value.faults[-1] == f"{path}: and 2 more rows that cannot be read"
