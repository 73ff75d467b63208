"""Hashes of the texts that a model has learned."""

from __future__ import annotations

from pathlib import Path

import pytest

from whinchat.data.dataset import Corpus, DataReport, Split
from whinchat.data.learned_texts import (
    LEARNED_TEXTS,
    find_learned,
    hash_text,
    learned_after,
    learned_warning,
    read_learned,
    write_learned,
)
from whinchat.errors import DataError


def hashes(*texts: str) -> set[str]:
    return set(map(hash_text, texts))


def corpus(*texts: str, soft: Split | None = None) -> Corpus:
    return Corpus("source", None, Split("train", texts, (0,) * len(texts)), None, None, DataReport(), soft=soft)


def test_spellings_of_a_text_have_one_hash() -> None:
    first, *others = map(hash_text, ["It’s A & B", "it’s  a &amp; b", "It\\u2019s A & B", "It’s A & C"])
    assert [other == first for other in others] == [True, True, False]
    assert hash_text("@Bob, see https://t.co/1") == hash_text("@user, see http")


def test_texts_of_names_and_links_alone_are_not_one_text() -> None:
    texts = [
        "https://t.co/1",
        "https://t.co/2",
        "@bob @ann",
        "@bob!",
        "https://t.co/1 @bob",
        "😀",
        "@bobさん",
        "@annさん",
    ]
    assert len(hashes(*texts)) == len(texts) - 1, "the last two are one tweet to different people"


def test_hashes_are_the_same_in_every_release() -> None:
    """They are compared with those of earlier runs, on other machines."""
    assert hash_text("It\\u2019s  A &amp; B") == "21eda9fa48dd262b"
    assert hash_text("@Bob, see https://t.co/1") == "6060f5ffda605391"


def test_a_training_adds_to_what_its_model_had_learned(tmp_path: Path) -> None:
    soft = Split("soft labels", ("three",), (0,), shares=((1.0,),))
    first = learned_after("package:model", corpus("one", "two", soft=soft))
    assert first == hashes("one", "two", "three")
    write_learned(tmp_path, first)
    assert learned_after(str(tmp_path), corpus("four")) == hashes("one", "two", "three", "four")


def test_what_an_earlier_export_had_learned_is_not_known(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("name: earlier\n")
    assert learned_after(str(tmp_path), corpus("one")) is None


def test_where_hashes_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    (run / "adapter").mkdir(parents=True)
    (run / "other").mkdir()
    assert read_learned(run) is None
    write_learned(run, hashes("one"))
    (tmp_path / "link").symlink_to(run / "adapter")
    assert read_learned(run) == read_learned(run / "adapter") == read_learned(tmp_path / "link") == hashes("one")
    assert read_learned(run / "other") is None
    assert read_learned("package:smollm2-135m-instruct") is None
    monkeypatch.chdir(run / "adapter")
    assert read_learned(".") == hashes("one")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read_learned("~/run") == hashes("one")


def test_rows_are_named() -> None:
    assert find_learned(hashes("one"), ["ONE", "two", "One "]) == [0, 2]
    warning = learned_warning("my model", {"validation": [4], "test": list(range(1200))})
    assert warning is not None
    assert (
        "has learned 1 text of validation (row 4) and 1,200 texts of test (rows 0, 1, 2, 3, 4, ...) before" in warning
    )
    assert learned_warning("my model", {"validation": [], "test": []}) is None


@pytest.mark.parametrize("content", [b"0123456789abcde", b"0123456789abcdef\n0123", "é".encode() * 8])
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / LEARNED_TEXTS).write_bytes(content)
    with pytest.raises(DataError, match=r"learned_texts\.hashes: is not as whinchat wrote it"):
        read_learned(tmp_path)
