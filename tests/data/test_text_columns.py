"""Texts made of several columns: the same in training and in prediction, in every format."""

from __future__ import annotations

import gzip
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas
import pyarrow
import pyarrow.parquet
import pytest

from tests.helpers.tables import data_config, locate_all, write_file
from whinchat.data.formats.table_registry import find_table_format, open_table
from whinchat.data.text_columns import TextColumns
from whinchat.errors import DataError

TEMPLATE = "{title}\n\n{body} ({stars})"
ROWS: list[dict[str, Any]] = [
    {"title": "Broken", "body": "It {broke}", "stars": 1, "label": "bad"},
    {"title": None, "body": " fine ", "stars": None, "label": "good"},
    {"title": "", "body": None, "stars": 5, "label": "good"},
    {"title": None, "body": "", "stars": None, "label": "good"},
]
TEXTS = ["Broken\n\nIt {broke} (1)", "fine  ()", "(5)", ""]


def write_rows(path: Path) -> Path:
    if path.suffix == ".jsonl":
        # A row may lack the key of an empty cell.
        present = ({name: cell for name, cell in row.items() if cell is not None} for row in ROWS)
        return write_file(path, "".join(f"{json.dumps(row)}\n" for row in present))
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path, row_group_size=2)
        return path
    frame = pandas.DataFrame(ROWS).astype({"stars": "Int64"})
    body = frame.to_csv(index=False, sep="\t" if ".tsv" in path.name else ",")
    return write_file(path, gzip.compress(body.encode()) if path.suffix == ".gz" else body)


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.csv.gz", "t.jsonl", "t.parquet"])
def test_training_and_prediction_make_the_same_texts(tmp_path: Path, name: str) -> None:
    path = write_rows(tmp_path / name)
    data = data_config(text=TEMPLATE)
    table_format = find_table_format(path)
    assert table_format is not None
    assert [row.text for row in table_format.read_labelled_rows(path, data)] == TEXTS
    table = open_table(path, TextColumns.of(data))
    blocks = [table.read_block(location) for location in locate_all(table, 3)]
    assert [text for block in blocks for text in block.texts] == TEXTS
    assert [fault for block in blocks for fault in block.faults] == [
        "", "", "", "'title' and 'body' and 'stars' hold nothing",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.parquet"])
def test_a_column_of_the_template_that_is_missing(tmp_path: Path, name: str) -> None:
    path, data = write_rows(tmp_path / name), data_config(text="{titel}\n{body}")
    table_format = find_table_format(path)
    assert table_format is not None
    with pytest.raises(DataError, match=r"no column 'titel'; did you mean title.* with data\.text$"):
        table_format.read_labelled_rows(path, data)
    with pytest.raises(
        DataError, match=r"no column 'titel'; did you mean title.* with data\.text \(to predict: --text"
    ):
        open_table(path, TextColumns.of(data))


def test_a_row_without_any_column_of_the_template(tmp_path: Path) -> None:
    path = write_file(tmp_path / "t.jsonl", '{"title": "a", "body": "b"}\n{"titel": "a"}\n{"body": ["a"]}\n')
    table = open_table(path, TextColumns.of_template("{title} {body}"))
    assert table.read_block(locate_all(table, 9)[0]).faults == (
        "",
        "no key 'title'; did you mean titel?",
        "'body' holds a list; a part of a text is one text, number or truth value",
    )


@pytest.mark.parametrize(
    ("template", "cells", "text"),
    [
        ("{a}{{{b}}}", ("x", "y"), "x{y}"),
        ("{a}, {b}, {a}", (True, Decimal("1.50")), "true, 1.50, true"),
        ("{a.real} {b[0]}", ("{b}", "{a.real}"), "{b} {a.real}"),
        ("About {a}: {b}", (float("nan"), "x"), "About : x"),
    ],
)
def test_templates(template: str, cells: tuple[object, ...], text: str) -> None:
    assert TextColumns.of_template(template).read(cells) == (text, "")


def test_literal_words_are_no_text() -> None:
    assert TextColumns.of_template("About {a}").read([" "]) == ("", "'a' holds nothing")
    assert TextColumns.of(data_config(text="{a} {b}"), "c") == TextColumns(("c",))
