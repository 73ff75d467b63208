"""Count the words and the runs of characters of texts once, for TF-IDF that is fitted on several parts of the texts."""

import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from scipy.sparse import hstack, vstack
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer

# Single characters and signs are words, too: "u", "?" and ":)" are informative in short texts.
WORDS = {"ngram_range": (1, 2), "token_pattern": r"\w+|[^\w\s]+"}
CHARACTERS = {"ngram_range": (2, 5), "analyzer": "char_wb"}
# Runs of characters in more text than this take minutes and gigabytes; words alone are counted then.
MOST_CHARACTERS = 10_000_000


class CountedTexts:
    """Counts of the words, pairs of words, and runs of 2 to 5 characters within words of texts.

    Counting takes most of the time of TF-IDF, and the counts of a text do not depend on the other texts.

    Args:
        train: texts on which TF-IDF may be fitted. Each feature occurs in one of them.
        others: further texts to compute TF-IDF of.

    Attributes:
        characters: whether runs of characters are counted.
        seconds: wall-clock time of counting.
    """

    def __init__(self, train: Iterable[str], others: Iterable[str]) -> None:
        started = time.perf_counter()
        known = dict.fromkeys(train)
        further = [text for text in dict.fromkeys(others) if text not in known]
        self.characters = sum(map(len, known)) <= MOST_CHARACTERS
        kinds = [WORDS, CHARACTERS] if self.characters else [WORDS]
        if not any(text.strip() for text in known):
            kinds = []  # scikit-learn takes no texts without words
        self._counts = [_count(CountVectorizer(dtype=np.int32, **kind), list(known), further) for kind in kinds]
        self._row_of = {text: row for row, text in enumerate([*known, *further])}
        self.seconds = time.perf_counter() - started

    def tfidf(self, fitted: Sequence[str], read: Sequence[str]) -> tuple[Any, Any]:
        """Fit TF-IDF on some texts, and return it for these texts and for others.

        The matrices equal those of ``TfidfVectorizer(sublinear_tf=True)`` for words and for characters, side by side.

        Args:
            fitted: M texts of ``train``, at least one with a word.
            read: N texts of ``train`` or ``others``.

        Returns:
            Sparse matrices of M and of N rows, with the same features.
        """
        fitted_rows, read_rows = ([self._row_of[text] for text in texts] for texts in (fitted, read))
        fitted_parts, read_parts = [], []
        for counts in self._counts:
            own = counts[fitted_rows]
            # Features that no fitted text has are left out, because they would change the norms of the other texts.
            used = np.flatnonzero(own.getnnz(axis=0))
            transformer = TfidfTransformer(sublinear_tf=True).fit(own[:, used])
            fitted_parts.append(transformer.transform(own[:, used]))
            read_parts.append(transformer.transform(counts[read_rows][:, used]))
        return hstack(fitted_parts, format="csr"), hstack(read_parts, format="csr")


def _count(vectorizer: CountVectorizer, known: Sequence[str], further: Sequence[str]) -> Any:
    """Return the counts of ``known`` and of ``further``; only ``known`` has features."""
    counts = vectorizer.fit_transform(known)
    return vstack([counts, vectorizer.transform(further)], format="csr") if further else counts
