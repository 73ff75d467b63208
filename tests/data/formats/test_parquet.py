"""Parquet: labelled rows with stored class names, and blocks in row groups of any size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from tests.helpers.tables import data_config, labelled_copy
from whinchat.data.formats.parquet import ParquetFormat
from whinchat.data.formats.table_registry import open_table
from whinchat.errors import DataError


def dataset(texts: list[Any], labels: list[Any], names: list[str] | None = None) -> Any:
    datasets = pytest.importorskip("datasets")
    table = datasets.Dataset.from_dict({"text": texts, "label": labels})
    return table.cast_column("label", datasets.ClassLabel(names=names)) if names else table


def test_labelled_rows(tmp_path: Path) -> None:
    dataset(["a\u2028", "b"], ["x", "y"]).to_parquet(tmp_path / "my.parquet")
    rows = ParquetFormat.read_labelled_rows(tmp_path / "my.parquet", data_config())
    assert [(row.text, row.label) for row in rows] == [("a\u2028", "x"), ("b", "y")]
    assert rows[1].where == f"{tmp_path}/my.parquet row 2"


def test_stored_class_names(tmp_path: Path) -> None:
    dataset(["a", "b"], [1, 0], ["no", "yes"]).to_parquet(tmp_path / "my.parquet")
    assert [row.label for row in ParquetFormat.read_labelled_rows(tmp_path / "my.parquet", data_config())] == [
        "yes",
        "no",
    ]


def test_integers_stay_integers(tmp_path: Path) -> None:
    table = pyarrow.table({"text": ["a"], "label": [1]})
    pyarrow.parquet.write_table(table, tmp_path / "my.parquet")
    assert ParquetFormat.read_labelled_rows(tmp_path / "my.parquet", data_config())[0].label == "1"


def test_what_training_refuses(tmp_path: Path) -> None:
    path = tmp_path / "my.parquet"
    with pytest.raises(DataError, match=r"my\.parquet: no such file"):
        ParquetFormat.read_labelled_rows(path, data_config())
    path.write_bytes(b"not a table at all")
    with pytest.raises(DataError, match=r"my\.parquet: cannot be read as Parquet \("):
        ParquetFormat.read_labelled_rows(path, data_config())
    dataset(["a"], ["x"]).to_parquet(path)
    with pytest.raises(DataError, match=r"my\.parquet: no column 'texte'; did you mean text\?"):
        ParquetFormat.read_labelled_rows(path, data_config(text_column="texte"))
    dataset([], []).to_parquet(path)
    with pytest.raises(DataError, match=r"my\.parquet: has no rows"):
        ParquetFormat.read_labelled_rows(path, data_config())
    dataset([1], ["x"]).to_parquet(path)
    with pytest.raises(DataError, match=r"my\.parquet: 'text' holds int64, not text; name the column"):
        ParquetFormat.read_labelled_rows(path, data_config())


@pytest.mark.parametrize("group", [3, 7, 100])
def test_parquet_in_row_groups_of_any_size(tmp_path: Path, group: int) -> None:
    path = tmp_path / "in.parquet"
    texts = [None if at == 4 else f"text {at}" for at in range(17)]
    whole = pyarrow.table({"n": list(range(17)), "text": texts, "deep": [[at] for at in range(17)]})
    pyarrow.parquet.write_table(whole, path, row_group_size=group)
    out = pyarrow.parquet.read_table(labelled_copy(path, rows=5))
    assert out.select(["n", "text", "deep"]).equals(whole)
    assert out["label"].to_pylist() == [None if at == 4 else "a" for at in range(17)]
    assert out["error"].to_pylist()[4] == "'text' holds nothing"
    assert str(out.schema.field("p_a").type) == "double"


def test_an_index_that_counts_rows_which_are_not_there(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a", "b"]}), path)
    table = open_table(path, "text")
    (location,) = table.locate_blocks(5, lambda seen: None)
    with pytest.raises(DataError, match=r"in\.parquet: has fewer rows than its index says"):
        table.read_block(replace(location, rows=3))
