"""Folders in TweetEval's format."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.tables import TWEETEVAL, write_file
from whinchat.data.tweeteval import read_tweeteval
from whinchat.errors import DataError


def tweeteval(folder: Path, texts: str, labels: str, split: str = "train") -> None:
    write_file(folder / f"{split}_text.txt", texts)
    write_file(folder / f"{split}_labels.txt", labels)


def test_splits_and_mapping(tmp_path: Path) -> None:
    write_file(tmp_path / "mapping.txt", "0\tno\n1\tyes")
    tweeteval(tmp_path, "a\nb\n", "0\n1\n")
    tweeteval(tmp_path, "c\r\nd\r\n", "1\r\n0\r\n", "val")
    splits = read_tweeteval(tmp_path)
    assert list(splits) == ["train", "validation"]
    assert [(row.text, row.label) for row in splits["validation"]] == [("c", "yes"), ("d", "no")]
    assert splits["train"][1].where == f"{tmp_path}/train_text.txt:2"


def test_only_newline_ends_a_text(tmp_path: Path) -> None:
    odd = "one\u2028still one\x85and\x0bon\x1c"
    tweeteval(tmp_path, f"{odd}\ntwo\n", "0\n1\n")
    assert [row.text for row in read_tweeteval(tmp_path)["train"]] == [odd, "two"]


def test_unequal_counts(tmp_path: Path) -> None:
    tweeteval(tmp_path, "a\nb\n", "0\n")
    with pytest.raises(DataError, match=r"train_text\.txt has 2 lines but .*train_labels\.txt has 1; line N"):
        read_tweeteval(tmp_path)


def test_unknown_id(tmp_path: Path) -> None:
    write_file(tmp_path / "mapping.txt", "0\tno\n")
    tweeteval(tmp_path, "a\nb\n", "0\n7\n")
    with pytest.raises(DataError, match=r"train_labels\.txt:2: label id '7' is not in mapping\.txt, which has 0"):
        read_tweeteval(tmp_path)


def test_bad_mapping(tmp_path: Path) -> None:
    write_file(tmp_path / "mapping.txt", "0 no\n")
    tweeteval(tmp_path, "a\n", "0\n")
    with pytest.raises(DataError, match=r"mapping\.txt:1: found '0 no'; each line must read ID<TAB>NAME"):
        read_tweeteval(tmp_path)


def test_missing_partner_and_missing_train(tmp_path: Path) -> None:
    write_file(tmp_path / "val_text.txt", "a\n")
    with pytest.raises(DataError, match=r"val_labels\.txt: no such file"):
        read_tweeteval(tmp_path)
    write_file(tmp_path / "val_labels.txt", "0\n")
    with pytest.raises(DataError, match=r"no train_text\.txt and train_labels\.txt"):
        read_tweeteval(tmp_path)


@pytest.mark.skipif(not TWEETEVAL.is_dir(), reason="../shared/data/tweeteval is not on this machine")
@pytest.mark.parametrize(
    ("task", "rows"),
    [
        ("sentiment", {"train": 47470, "validation": 2000}),
        ("emotion", {"train": 3257, "validation": 374, "test": 1421}),
        ("irony", {"train": 2862, "validation": 955, "test": 784}),
    ],
)
def test_real_files(task: str, rows: dict[str, int]) -> None:
    assert {name: len(split) for name, split in read_tweeteval(TWEETEVAL / task).items()} == rows
