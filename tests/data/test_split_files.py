"""Which files of a folder are which split."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.helpers.tables import data_config, write_file
from whinchat.data.split_files import read_split_file, read_split_folder
from whinchat.errors import DataError


def test_formats_and_names(tmp_path: Path) -> None:
    write_file(tmp_path / "train.csv", "text,label\na,b\n")
    write_file(tmp_path / "dev.NDJSON", '{"text": "c", "label": "b"}\n')
    write_file(tmp_path / "Test.tsv", "text\tlabel\nd\tb\n")
    write_file(tmp_path / "notes.txt", "no data")
    splits = read_split_folder(tmp_path, data_config())
    assert {name: rows[0].text for name, rows in splits.items()} == {"train": "a", "validation": "c", "test": "d"}


def test_shards_in_order(tmp_path: Path) -> None:
    for shard in (1, 0):
        write_file(tmp_path / f"train-0000{shard}-of-00002.csv", f"text,label\n{shard},b\n")
    assert [row.text for row in read_split_folder(tmp_path, data_config())["train"]] == ["0", "1"]


def test_competing_files(tmp_path: Path) -> None:
    write_file(tmp_path / "train.csv", "text,label\na,b\n")
    write_file(tmp_path / "train.jsonl", '{"text": "c", "label": "b"}\n')
    with pytest.raises(DataError, match=r"train\.csv and train\.jsonl are files of one split; keep one, or choose"):
        read_split_folder(tmp_path, data_config())
    assert read_split_folder(tmp_path, data_config(format="jsonl"))["train"][0].text == "c"


def test_no_train(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    write_file(tmp_path / "all.csv", "text,label\na,b\n")
    with pytest.raises(DataError, match=r"no training file; expected train\.csv .*; it holds all\.csv, data/$"):
        read_split_folder(tmp_path, data_config())
    with pytest.raises(DataError, match=r"no training file in format parquet;"):
        read_split_folder(tmp_path, data_config(format="parquet"))


def test_file_formats(tmp_path: Path) -> None:
    path = write_file(tmp_path / "my.dat", "text,label\na,b\n")
    assert read_split_file(path, data_config(format="csv"))["train"][0].text == "a"
    with pytest.raises(DataError, match=re.escape("cannot tell how to read a .dat file; set data.format to csv")):
        read_split_file(path, data_config())
    with pytest.raises(DataError, match="a TweetEval source is a folder"):
        read_split_file(path, data_config(format="tweeteval"))
