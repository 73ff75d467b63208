"""TF-IDF from counts that several fits share, against scikit-learn's vectorizers fitted anew."""

from __future__ import annotations

import numpy as np

from tests.helpers.run_records import recipe
from whinchat.data.dataset import Split
from whinchat.evaluation.counted_texts import CountedTexts
from whinchat.evaluation.simple_methods import answer_simply, count_texts, tfidf_features

TRAIN = ("What a lovely day :)", "u there ?", "lovely, lovely bus", "What a lovely day :)", "bad   door", "unseen word")
OTHERS = ("a lovely door!", "u there ?", "never counted before")


def test_any_part_of_the_texts_is_fitted_as_if_there_were_no_others() -> None:
    counted = CountedTexts(TRAIN, OTHERS)
    for rows in ((0, 1, 2, 3, 4, 5), (0, 2, 3), (4, 1)):
        texts = [TRAIN[row] for row in rows]
        wanted = tfidf_features()
        fitted, read = counted.tfidf(texts, OTHERS)
        np.testing.assert_allclose(fitted.toarray(), wanted.fit_transform(texts).toarray(), rtol=1e-12)
        np.testing.assert_allclose(read.toarray(), wanted.transform(OTHERS).toarray(), rtol=1e-12)


def noisy_rows(name: str, rows: int, seed: int) -> Split:
    """Texts of two words, the first of which mostly tells the label."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 3, rows)
    words = np.array([["awful", "sad"], ["table", "bus"], ["lovely", "happy"]])
    told = np.where(draw.random(rows) < 0.7, labels, draw.integers(0, 3, rows))
    texts = [f"{words[one, draw.integers(2)]} {words[draw.integers(3), draw.integers(2)]}" for one in told]
    return Split(name, tuple(texts), tuple(labels.tolist()))


def test_decisions_that_share_counts_get_the_answers_of_their_own() -> None:
    train, evaluated = noisy_rows("train", 200, 1), noisy_rows("test", 60, 2)
    settings = recipe()
    counted = count_texts(settings, train.texts, evaluated.texts)
    for rows in (range(200), range(0, 200, 3)):
        own = train.take(list(rows))
        alone, shared = (answer_simply(settings, own, evaluated.texts, counts)[1] for counts in (None, counted))
        assert alone.answers.tolist() == shared.answers.tolist()
        assert alone.settings == shared.settings
        assert shared.seconds > counted.seconds


def test_texts_without_words_have_no_tf_idf() -> None:
    train = Split("train", (" ", ""), (0, 1))
    counted = count_texts(recipe(), train.texts, ("a text",))
    for counts in (None, counted):
        assert [one.name for one in answer_simply(recipe(), train, ("a text",), counts)] == ["majority"]
    # The only text with words is held out from the choice of C.
    few = Split("train", (" ", " ", " ", " ", "", "", "", "", "word", "  "), (0, 1) * 5)
    assert [one.name for one in answer_simply(recipe(), few, ("a word",))] == ["majority", "tfidf"]
