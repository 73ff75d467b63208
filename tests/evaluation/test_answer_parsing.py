"""Generated answers are read strictly, or by the label word that occurs first in them."""

from __future__ import annotations

import pytest

from tests.helpers import tiny_models
from whinchat.evaluation.answer_parsing import INVALID, parse_answer

TASK = tiny_models.tiny_task(("good", "good enough", "n/a."))


@pytest.mark.parametrize(
    ("said", "label"),
    [
        ("good", 0),
        ("Good", 0),
        (" GOOD \n", 0),
        ("good.", 0),
        ('"good"', 0),
        ('"good."', 0),
        ('"good".', 0),
        ("'good'!", 0),
        ("`good`", 0),
        ("good enough", 1),
        ("Good enough.", 1),
        ("n/a.", 2),
        ("N/A.", 2),
        ("good\n\nralitive", INVALID),
        ("good good", INVALID),
        ("good, really", INVALID),
        ("The text is good", INVALID),
        ("goo", INVALID),
        ("goods", INVALID),
        ("", INVALID),
        (".", INVALID),
        ('""', INVALID),
        ("bad", INVALID),
    ],
)
def test_the_whole_answer_is_a_label(said: str, label: int) -> None:
    assert parse_answer(said, TASK) == label


def test_answer_words_are_read_not_labels() -> None:
    task = tiny_models.tiny_task(("pos", "neg"), answers={"pos": "Ja", "neg": "Straße"})
    assert [parse_answer(said, task) for said in ("ja", "JA.", "STRASSE", "pos")] == [0, 0, 1, INVALID]


@pytest.mark.parametrize(
    ("said", "label"),
    [
        # The published card counts this answer as its first label.
        ("good\n\nralitive", 0),
        ("good good", 0),
        ("GOOD, really", 0),
        ("The text is good", 0),
        ("not good, but N/A", 0),
        ("n/a, or good", 2),
        ("(N/A)", 2),
        ("good enough, not good", 1),
        ("It is good; good enough?", 0),
        ("good\tenough", 0),
        # Parts of other words are no label words.
        ("goods", INVALID),
        ("no_good", INVALID),
        ("ungood", INVALID),
        ("goodness, n/a", 2),
        ("goo", INVALID),
        ("", INVALID),
        ("...", INVALID),
        ('The tweet "Alciato: Bee will invest 150', INVALID),
    ],
)
def test_the_first_label_word_counts(said: str, label: int) -> None:
    assert parse_answer(said, TASK, "first_word") == label


def test_the_first_label_word_of_answer_words_with_signs_and_other_scripts() -> None:
    task = tiny_models.tiny_task(("c", "c++", "+1", "neg"), answers={"neg": "Straße"})
    assert [parse_answer(said, task, "first_word") for said in ("C++ it is", "c, not c++", "+1!", "die STRASSE")] == [
        1,
        0,
        2,
        3,
    ]
    chinese = tiny_models.tiny_task(("pos", "neg"), answers={"pos": "正面", "neg": "负面"})
    assert parse_answer("负面。正面", chinese, "first_word") == 1


def test_both_readings_agree_on_an_answer_that_is_a_label() -> None:
    quotes = ("{}", " {} ", "{}.", '"{}"', "'{}!'", "`{}`\n")
    for index, word in enumerate(TASK.answer_words):
        for quoted in quotes:
            said = quoted.format(word.upper())
            assert parse_answer(said, TASK) == parse_answer(said, TASK, "first_word") == index


def test_answer_words_that_are_told_apart_by_punctuation_alone() -> None:
    task = tiny_models.tiny_task(("yes", "yes!", "?", "!"))
    said = ("yes", "Yes!", "yes.", "?", "!", "", "...", "!!")
    assert [parse_answer(one, task) for one in said] == [0, 1, 0, 2, 3, INVALID, INVALID, INVALID]
    assert [parse_answer(one, task, "first_word") for one in ("yes, ?", "so: Yes! yes", "?", "")] == [0, 1, 2, INVALID]
