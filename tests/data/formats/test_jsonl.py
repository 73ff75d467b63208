"""JSON Lines: strict for training; for prediction no line is lost or moved, and a broken one says why."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.helpers.tables import COLUMN_TYPES, data_config, labelled_copy, write_file
from whinchat.data.formats.jsonl import JsonlFormat
from whinchat.data.formats.table_registry import open_table
from whinchat.errors import DataError


def test_labelled_rows(tmp_path: Path) -> None:
    body = '{"text": "a\u2028b", "label": 1}\n\n{"label": true, "text": "c", "id": 3}\n'
    rows = JsonlFormat.read_labelled_rows(write_file(tmp_path / "my.jsonl", body), data_config())
    assert [(row.text, row.label, row.number) for row in rows] == [("a\u2028b", "1", 1), ("c", "true", 3)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "a", "label"}', r"my\.jsonl:2: not JSON \(Expecting .*; each line must hold one object"),
        ('{"text": "a", "label": ' + "9" * 5000 + "}", r"my\.jsonl:2: not JSON \(Exceeds the limit"),
        ('{"text": "a", "label": "b", "n": NaN}', r"my\.jsonl:2: not JSON \(NaN is no JSON number\); each line"),
        ('{"text": "a", "text": "b", "label": "c"}', r"my\.jsonl:2: not JSON \(the key 'text' occurs twice"),
        ("[1]", r"my\.jsonl:2: not an object \(a list\); each line must hold one object"),
        ("[" * 200_000, r"my\.jsonl:2: not JSON \(nested too deeply\)"),
        ('{"txt": "a", "label": "b"}', r"my\.jsonl:2: no key 'text'; did you mean txt\?"),
        ('{"text": 3, "label": "b"}', r"my\.jsonl:2: 'text' holds a int, not text; .*data\.text_column"),
        ('{"text": "a", "label": ["b"]}', r"my\.jsonl:2: 'label' holds a list; a label is one text, number or truth"),
        ('{"text": "a", "label": 1e400}', r"my\.jsonl:2: 'label' holds inf, which is no label"),
        (r'{"text": "\ud83d", "label": "b"}', r"my\.jsonl:2: 'text' holds half of a surrogate pair"),
        (r'{"text": "a", "label": "\ud83d"}', r"my\.jsonl:2: 'label' holds half of a surrogate pair"),
    ],
)
def test_what_training_refuses(tmp_path: Path, line: str, message: str) -> None:
    path = write_file(tmp_path / "my.jsonl", '{"text": "a", "label": "b"}\n' + line + "\n")
    with pytest.raises(DataError, match=message):
        JsonlFormat.read_labelled_rows(path, data_config())


def test_keys_of_later_rows_are_columns(tmp_path: Path) -> None:
    path = write_file(tmp_path / "in.jsonl", '{"id": 1}\n[1]\n{"text": "a", "label": "x"}\n{"id": 2, "text": "b"}\n')
    assert open_table(path, None).names == ("id", "text", "label")


def test_jsonl_keeps_what_it_cannot_read(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    lines = [
        '{"text": "é", "n": [1, {"a": null}]}', "", "{broken", "[1]", '{"other": 1}', '{"text": 5}', '{"text": null}',
        r'{"text": "\ud83d"}', '{"text": ""}',
    ]  # fmt: skip
    path.write_bytes("\n".join(lines).encode() + b'\n{"text": "caf\xe9"}\r\n')
    out = [json.loads(line) for line in labelled_copy(path).read_text(encoding="utf-8").splitlines()]
    assert len(out) == 9
    assert out[0] == {"text": "é", "n": [1, {"a": None}], "label": "a", "unsure": False, "p_a": 0.25, "error": ""}
    assert [row["label"] for row in out] == ["a", *[None] * 8]
    assert out[1]["line"] == "{broken"
    assert "not JSON" in out[1]["error"]
    assert (out[2]["line"], out[2]["error"]) == ("[1]", "not an object (a list)")
    assert [row["error"] for row in out[3:7]] == [
        "no key 'text'",
        "'text' holds a int, not text",
        "'text' holds nothing",
        "'text' holds half of a surrogate pair, which is no character (often an emoji cut in two)",
    ]
    assert out[6]["text"] == "\ud83d"
    assert out[7]["error"] == "'text' holds nothing"
    assert out[8]["line"] == '{"text": "caf\\xe9"}'


@pytest.mark.parametrize("key", ['"label"', r'"lab\u0065l"'])
def test_a_key_of_an_added_column_is_found_in_any_row(tmp_path: Path, key: str) -> None:
    lines = ['{"text": "a"}', '{"text": "the \\"label\\" label"}', f'{{"text": "b", {key}: "mine"}}']
    path = write_file(tmp_path / "in.jsonl", "\n".join(lines))
    table = open_table(path, "text")
    with pytest.raises(DataError, match=r"in\.jsonl:3: has a column 'label' already; choose a prefix"):
        table.require_unused(tuple(COLUMN_TYPES))
    with pytest.raises(DataError, match=r"in\.jsonl:3: has a column 'label' already; choose a prefix"):
        labelled_copy(path)
    table.require_unused(("new_label", "new_error"))


def test_objects_come_back_as_they_were_written(tmp_path: Path) -> None:
    source = (
        r'{"b" : 1e400,"n":1.10, "text":"\u00e9\ud83d\ude00", "half": "\ud83d", "deep": {"a":[12345678901234567890]} }'
    )
    path = write_file(tmp_path / "in.jsonl", f"{source}\n")
    expected = source[:-1] + ', "label": "a", "unsure": false, "p_a": 0.25, "error": ""}\n'
    assert labelled_copy(path).read_text(encoding="utf-8") == expected


@pytest.mark.parametrize("suffix", [".ndjson", ".NDJSON"])
def test_ndjson_is_jsonl(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"in{suffix}"
    path.write_bytes(b'\xef\xbb\xbf{"text": "a"}\r\n\r\n{"text": "b"}')
    assert [json.loads(line)["label"] for line in labelled_copy(path).read_text(encoding="utf-8").splitlines()] == [
        "a",
        "a",
    ]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b"[" * 200_000, "not JSON (nested too deeply)"),
        (b'{"text": ' + b"9" * 5000 + b"}", "not JSON (Exceeds the limit"),
        (b"[1]", "not an object (a list)"),
        (b'{"text": "a", "n": Infinity}', "not JSON (Infinity is no JSON number)"),
        (b'{"text": "a", "n": {"b": 1, "b": 2}}', "not JSON (the key 'b' occurs twice in an object)"),
        (b'{"text": "a\x00"}', "not JSON (Invalid control character"),
    ],
)
def test_odd_json_is_kept_and_explained(tmp_path: Path, line: bytes, fault: str) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(line + b'\n{"text": "a"}\n')
    odd, plain = [json.loads(row) for row in labelled_copy(path).read_text(encoding="utf-8").splitlines()]
    assert odd["line"] == line.decode("utf-8", "backslashreplace")
    assert odd["error"].startswith(fault)
    assert plain["label"] == "a"


def test_time_to_find_a_key_twice_is_bounded(tmp_path: Path) -> None:
    keys = ",".join(f'"{at}":0' for at in [*range(100_000), 99_999])
    table = open_table(write_file(tmp_path / "in.jsonl", f'{{"text":"a",{keys}}}\n'), "text")
    (place,) = table.locate_blocks(1, lambda count: None)
    assert "the key '99999' occurs twice" in table.read_block(place).faults[0]
