"""Tables block by block: no row is lost, none changes its place, and what is broken says so."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whinchat.data.formats.table_format import Block, BlockLocation, TableFormat
from whinchat.data.formats.table_registry import open_table
from whinchat.errors import DataError

KINDS: dict[str, type] = {"label": str, "unsure": bool, "p_a": float, "error": str}


def places_of(table: TableFormat, rows: int) -> list[BlockLocation]:
    return list(table.locate_blocks(rows, lambda _: None))


def columns_for(block: Block) -> dict[str, list[Any]]:
    """As labelling fills them: nothing but the fault where there is one."""
    good = [not fault for fault in block.faults]
    return {
        "label": ["a" if one else None for one in good],
        "unsure": [False if one else None for one in good],
        "p_a": [0.25 if one else None for one in good],
        "error": list(block.faults),
    }


def labelled(path: Path, rows: int = 2, column: str = "text") -> Path:
    """The table in ``path``, read in blocks, written in parts and joined."""
    table = open_table(path, column)
    parts = []
    for place in places_of(table, rows):
        block = table.read_block(place)
        assert len(block.texts) == len(block.faults) == place.rows
        part = path.with_name(f"part-{place.number}{path.suffix}")
        table.write_part(part, block, columns_for(block), KINDS)
        parts.append(part)
    out = path.with_name(f"out{path.suffix}")
    table.join_parts(parts, out, KINDS)
    return out


def rows_of(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\x00"), max_size=12)


@given(st.lists(st.tuples(cells, cells), max_size=12), st.integers(1, 5))
def test_csv_comes_back_row_by_row(tmp_path_factory: pytest.TempPathFactory, rows: list[Any], size: int) -> None:
    path = tmp_path_factory.mktemp("csv") / "in.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("id", "text"), *rows])
    table = open_table(path, "text")
    blocks = [table.read_block(place) for place in places_of(table, size)]
    assert [list(row) for block in blocks for row in block.rows] == [list(row) for row in rows]
    assert [text for block in blocks for text in block.texts] == [text for _, text in rows]
    found = rows_of(labelled(path, size))
    assert found == [["id", "text", *KINDS], *([*row, "a", "false", "0.25", ""] for row in rows)]


def test_broken_csv_rows_keep_their_place(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes(
        b'\xef\xbb\xbfid,text\n1,good\n2\n3,too,many,"fi,elds"\n\n4,caf\xe9\n5,a\rb\n6,"two\nlines"\n7,last'
    )
    out = rows_of(labelled(path))
    assert out[0] == ["id", "text", *KINDS]
    assert [row[:2] for row in out[1:]] == [
        ["1", "good"], ["2", ""], ["3", "too"], ["4", "caf\\xe9"], ["", ""], ["6", "two\nlines"], ["7", "last"],
    ]  # fmt: skip
    assert [row[2] for row in out[1:]] == ["a", "", "", "", "", "a", "a"]
    faults = [row[5] for row in out[1:]]
    assert faults[1] == "1 fields, the header has 2"
    assert faults[2] == '4 fields, the header has 2: ["many", "fi,elds"]'
    assert faults[3] == "not UTF-8 (byte 0xe9)"
    assert faults[4].startswith("not CSV (")
    assert faults[4].endswith(json.dumps("5,a\rb\n"))
    assert not faults[5]


def test_an_open_quote_does_not_take_the_rest_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    rest = "".join(f"{at},{'x' * 1000}\n" for at in range(3000))
    path.write_text(f'id,text\n1,"open\n{rest}', encoding="utf-8")
    table = open_table(path, "text")
    places = places_of(table, 1000)
    rows = sum(place.rows for place in places)
    assert 1900 < rows < 2100, "a megabyte of it"
    first = table.read_block(places[0])
    assert first.faults[0].startswith("not CSV (field larger than field limit")
    assert not any(first.faults[1:])


def test_tabs(tmp_path: Path) -> None:
    path = tmp_path / "in.tsv"
    path.write_text('text\tid\na, b\t1\n"c\td"\t2\n', encoding="utf-8")
    assert labelled(path).read_text(encoding="utf-8") == (
        'text\tid\tlabel\tunsure\tp_a\terror\na, b\t1\ta\tfalse\t0.25\t\n"c\td"\t2\ta\tfalse\t0.25\t\n'
    )


def test_jsonl_keeps_what_it_cannot_read(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    lines = [
        '{"text": "é", "n": [1, {"a": null}]}', "", "{broken", "[1]", '{"other": 1}', '{"text": 5}', '{"text": null}',
        r'{"text": "\ud83d"}', '{"text": ""}',
    ]  # fmt: skip
    path.write_bytes("\n".join(lines).encode() + b'\n{"text": "caf\xe9"}\r\n')
    out = [json.loads(line) for line in labelled(path).read_text(encoding="utf-8").splitlines()]
    assert len(out) == 9
    assert out[0] == {"text": "é", "n": [1, {"a": None}], "label": "a", "unsure": False, "p_a": 0.25, "error": ""}
    assert [row["label"] for row in out] == ["a", *[None] * 6, "a", None]
    assert out[1]["line"] == "{broken"
    assert "not JSON" in out[1]["error"]
    assert (out[2]["line"], out[2]["error"]) == ("[1]", "a list, not an object")
    assert [row["error"] for row in out[3:7]] == [
        "no key 'text'",
        "'text' holds a int, not text",
        "'text' holds nothing",
        "'text' holds half of a surrogate pair, which is no character",
    ]
    assert out[6]["text"] == "\ud83d"
    assert out[8]["line"] == '{"text": "caf\\xe9"}'


def test_jsonl_never_writes_over_a_key(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text('{"text": "a"}\n{"text": "b", "label": "mine"}\n', encoding="utf-8")
    with pytest.raises(DataError, match="a row has the key 'label' already; choose another --prefix"):
        labelled(path)


def test_a_header_is_repeated_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "in.CSV"
    path.write_bytes(b"\xef\xbb\xbf\r\n id,text ,id\r\n1,a,2\r\n")
    assert labelled(path).read_text(encoding="utf-8") == (" id,text ,id,label,unsure,p_a,error\n1,a,2,a,false,0.25,\n")


@pytest.mark.parametrize("suffix", [".ndjson", ".NDJSON"])
def test_ndjson_is_jsonl(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"in{suffix}"
    path.write_bytes(b'\xef\xbb\xbf{"text": "a"}\r\n\r\n{"text": "b"}')
    assert [json.loads(line)["label"] for line in labelled(path).read_text(encoding="utf-8").splitlines()] == ["a", "a"]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b"[" * 200_000, "not JSON (nested too deeply)"),
        (b'{"text": ' + b"9" * 5000 + b"}", "not JSON (Exceeds the limit"),
        (b"\xff\xfe[\x001\x00]\x00", "a list, not an object"),
    ],
)
def test_odd_json_is_kept_and_explained(tmp_path: Path, line: bytes, fault: str) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(line + b'\n{"text": "a"}\n')
    odd, plain = [json.loads(row) for row in labelled(path).read_text(encoding="utf-8").splitlines()]
    assert odd["line"] == line.decode("utf-8", "backslashreplace")
    assert odd["error"].startswith(fault)
    assert plain["label"] == "a"


@pytest.mark.parametrize("group", [3, 7, 100])
def test_parquet_in_row_groups_of_any_size(tmp_path: Path, group: int) -> None:
    path = tmp_path / "in.parquet"
    texts = [None if at == 4 else f"text {at}" for at in range(17)]
    whole = pyarrow.table({"n": list(range(17)), "text": texts, "deep": [[at] for at in range(17)]})
    pyarrow.parquet.write_table(whole, path, row_group_size=group)
    out = pyarrow.parquet.read_table(labelled(path, rows=5))
    assert out.select(["n", "text", "deep"]).equals(whole)
    assert out["label"].to_pylist() == [None if at == 4 else "a" for at in range(17)]
    assert out["error"].to_pylist()[4] == "'text' holds nothing"
    assert str(out.schema.field("p_a").type) == "double"


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_no_rows(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"in{suffix}"
    if suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.table({"text": pyarrow.array([], pyarrow.string())}), path)
    else:
        path.write_text("text\n" if suffix == ".csv" else "", encoding="utf-8")
    out = labelled(path)
    if suffix == ".parquet":
        assert pyarrow.parquet.read_schema(out).names == ["text", *KINDS]
    else:
        assert out.read_text(encoding="utf-8") == ("text,label,unsure,p_a,error\n" if suffix == ".csv" else "")


def test_blocks_are_found_by_their_place_alone(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    body = io.StringIO()
    csv.writer(body, lineterminator="\r\n").writerows([("text",), *((f"line\n{at}",) for at in range(10))])
    path.write_text(body.getvalue(), encoding="utf-8", newline="")
    table = open_table(path, "text")
    last = places_of(table, 3)[-1]
    assert (last.number, last.rows) == (3, 1)
    assert open_table(path, "text").read_block(last).texts == ("line\n9",)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("in.csv", "id,words\n1,a\n", "no column 'text'.*--text-column"),
        ("in.csv", "", "the file is empty"),
        ("in.csv", "\ufeff", "the file is empty"),
        ("in.csv", "id;text\n1;a\n", "the header 'id;text' is not separated by commas"),
        ("in.csv", "id,text,text\n1,a,b\n", "2 columns are called 'text'"),
        ("in.csv", "text\ra\rb\r", "the header cannot be read: not CSV .*; save the file as UTF-8"),
        ("in.csv", "text\na\n".encode("utf-16"), r"the header cannot be read: not UTF-8 \(byte 0xff\); save"),
        ("in.xlsx", "?", "not a table whinchat labels"),
        ("in.parquet", "no", "cannot be read as Parquet"),
    ],
)
def test_what_cannot_be_labelled(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message):
        open_table(tmp_path / name, "text")
    with pytest.raises(DataError, match="no such file"):
        open_table(tmp_path / "none.csv", "text")
