"""JSON Lines: strict for training; for prediction no line is lost or moved, and a broken one says why."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.helpers.tables import data_config, labelled_copy, write_file
from whinchat.data.formats.jsonl import JsonlFormat
from whinchat.errors import DataError


def test_labelled_rows(tmp_path: Path) -> None:
    body = '{"text": "a\u2028b", "label": 1}\n\n{"label": true, "text": "c", "id": 3}\n'
    rows = JsonlFormat.read_labelled_rows(write_file(tmp_path / "my.jsonl", body), data_config())
    assert [(row.text, row.label, row.number) for row in rows] == [("a\u2028b", "1", 1), ("c", "true", 3)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "a", "label"}', r"my\.jsonl:2: not valid JSON at column \d+ \(Expecting"),
        ('{"text": "a", "label": ' + "9" * 5000 + "}", r"my\.jsonl:2: holds a number that cannot be read"),
        ("[1]", r"my\.jsonl:2: holds a list; each line must hold one object"),
        ("[" * 200_000, r"my\.jsonl:2: JSON nested too deeply"),
        ('{"txt": "a", "label": "b"}', r"my\.jsonl:2: no column 'text'; did you mean txt\?"),
        ('{"text": 3, "label": "b"}', r"my\.jsonl:2: 'text' holds a int, not text; .*data\.text_column"),
        ('{"text": "a", "label": ["b"]}', r"my\.jsonl:2: 'label' holds a list; a row has exactly one label"),
        (r'{"text": "\ud83d", "label": "b"}', r"my\.jsonl:2: 'text' holds half of a surrogate pair"),
    ],
)
def test_what_training_refuses(tmp_path: Path, line: str, message: str) -> None:
    path = write_file(tmp_path / "my.jsonl", '{"text": "a", "label": "b"}\n' + line + "\n")
    with pytest.raises(DataError, match=message):
        JsonlFormat.read_labelled_rows(path, data_config())


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
        labelled_copy(path)


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
        (b"\xff\xfe[\x001\x00]\x00", "a list, not an object"),
    ],
)
def test_odd_json_is_kept_and_explained(tmp_path: Path, line: bytes, fault: str) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(line + b'\n{"text": "a"}\n')
    odd, plain = [json.loads(row) for row in labelled_copy(path).read_text(encoding="utf-8").splitlines()]
    assert odd["line"] == line.decode("utf-8", "backslashreplace")
    assert odd["error"].startswith(fault)
    assert plain["label"] == "a"
