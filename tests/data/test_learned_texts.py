"""Hashes of the texts that a model has learned."""

from __future__ import annotations

from pathlib import Path

import pytest

from whinchat.data.dataset import Corpus, DataReport, Split
from whinchat.data.learned_texts import (
    LEARNED_TEXTS,
    count_learned,
    hash_text,
    learned_hashes,
    learned_rows,
    learned_warning,
    read_learned,
    write_learned,
)
from whinchat.errors import DataError


def split(name: str, *texts: str) -> Split:
    return Split(name, texts, (0,) * len(texts))


def corpus(soft: Split | None = None) -> Corpus:
    validation, test = split("validation", "one", "four"), split("test", "five")
    return Corpus("source", None, split("train", "one", "two"), validation, test, DataReport(), soft=soft)


def test_spellings_of_a_text_have_one_hash() -> None:
    first, *others = map(hash_text, ["It’s A & B", "it’s  a &amp; b", "It\\u2019s A & B", "It’s A & C"])
    assert [other == first for other in others] == [True, True, False]


def test_hashes_are_the_same_in_every_process() -> None:
    """They are compared with those of other runs, on other machines."""
    assert hash_text("good") == "07878fd8745bb530"


def test_a_training_adds_to_what_its_model_had_learned(tmp_path: Path) -> None:
    soft = Split("soft labels", ("three",), (0,), shares=((1.0,),))
    assert learned_hashes("package:model", corpus()) == {hash_text("one"), hash_text("two")}
    write_learned(tmp_path, learned_hashes("package:model", corpus(soft)))
    assert learned_hashes(str(tmp_path), corpus()) == set(map(hash_text, ("one", "two", "three")))


def test_measured_texts_are_counted(tmp_path: Path) -> None:
    assert learned_rows(str(tmp_path), corpus()) == {}
    assert count_learned(tmp_path, ["one"]) is None
    write_learned(tmp_path, learned_hashes("package:model", corpus()))
    found = learned_rows(str(tmp_path), corpus())
    assert found == {"validation": 1, "test": 0}
    assert "my model has learned 1 text of validation before" in str(learned_warning("my model", found))
    assert learned_warning("my model", {"validation": 0, "test": 0}) is None
    assert count_learned(tmp_path, ["ONE", "One ", "nine"]) == 2


def test_the_adapter_of_a_run_has_learned_what_the_run_has(tmp_path: Path) -> None:
    write_learned(tmp_path, {hash_text("one")})
    assert count_learned(tmp_path / "adapter", ["one"]) == 1
    assert count_learned(tmp_path / "other", ["one"]) is None


@pytest.mark.parametrize("content", [b"0123456789abcde", b"0123456789abcdef\n0123", "\u00e9".encode() * 8])
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / LEARNED_TEXTS).write_bytes(content)
    with pytest.raises(DataError, match=r"learned_texts\.txt: is not as whinchat wrote it"):
        read_learned(tmp_path)
