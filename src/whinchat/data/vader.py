"""Readers of the texts that were rated for VADER (Hutto and Gilbert, ICWSM 2014)."""

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

from whinchat.data.rows import Row, text_lines
from whinchat.errors import DataError

# Mean rating from which a tweet counts as positive; below its negative, a tweet counts as negative.
_BORDER = 0.5
# The sides of zero on which a rating lies, in the order of the cells of ``read_vader_ratings``.
SIDES = ("negative", "neutral", "positive")
_COLLECTIONS = ("tweets", "amazonReviewSnippets", "movieReviewSnippets", "nytEditorialSnippets")


def read_vader(path: Path) -> tuple[Row, ...]:
    """Read tweets with the mean of 20 ratings from -4 to 4, and label them negative, neutral or positive.

    A mean of 0.5 or more is positive, of -0.5 or less negative. VADER's authors name no such limits; with these, 2,345
    rows are positive, 768 neutral and 1,087 negative.

    Raises:
        DataError: a line that is not ID<TAB>MEAN<TAB>TEXT.

    Source: Hutto and Gilbert, VADER (ICWSM 2014), file tweets_GroundTruth.txt.
    """
    rows = []
    for number, line in enumerate(text_lines(path), 1):
        parts = line.split("\t", 2)
        try:
            mean, text = float(parts[1]), parts[2]
        except (IndexError, ValueError):
            raise DataError(f"{path}:{number}: found {line[:40]!r}; each line must read ID<TAB>MEAN<TAB>TEXT") from None
        side = "positive" if mean > 0 else "negative"
        rows.append(Row(text, side if abs(mean) >= _BORDER else "neutral", f"{path}:", number))
    return tuple(rows)


def read_vader_ratings(path: Path) -> tuple[Row, ...]:
    """Read tweets and sentences of reviews and editorials, with the number of their ratings on each side of zero.

    The archive has 23,703 texts, each with 15 to 99 ratings from -4 to 4. The cells of a row count those below, at and
    above zero, in the order of ``SIDES``; its label is empty.

    Args:
        path: hutto_ICWSM_2014.tar.gz.

    Raises:
        DataError: a text has no ratings, or a line is not as VADER's authors describe it.

    Source: Hutto and Gilbert, VADER (ICWSM 2014), files *_GroundTruth.txt and *_anonDataRatings.txt.
    """
    rows = []
    with tarfile.open(path) as archive:
        for collection in _COLLECTIONS:
            ratings = {number: cells[-1] for number, *cells in _cells(archive, f"{collection}_anonDataRatings.txt")}
            origin = f"{path}: {collection} line "
            for line, (number, _, *text) in enumerate(_cells(archive, f"{collection}_GroundTruth.txt"), 1):
                try:
                    given = [int(rating) for rating in json.loads(ratings[number])]
                    if not given:
                        raise ValueError
                except (KeyError, TypeError, ValueError):
                    raise DataError(f"{origin}{line}: no list of ratings belongs to {number!r}") from None
                sides = (sum(r < 0 for r in given), sum(r == 0 for r in given), sum(r > 0 for r in given))
                rows.append(Row("\t".join(text), "", origin, line, sides))
    return tuple(rows)


def _cells(archive: tarfile.TarFile, name: str) -> Iterator[list[str]]:
    """Yield the cells of each line of a file with tabs.

    Raises:
        DataError: the archive lacks the file, or a line has fewer than three cells.
    """
    place = f"{archive.name!s}: {name}"
    try:
        member = archive.extractfile(f"hutto_ICWSM_2014/{name}")
    except KeyError:
        member = None
    if member is None:
        raise DataError(f"{place} is missing")
    with member:
        for number, line in enumerate(member.read().decode("utf-8-sig").removesuffix("\n").split("\n"), 1):
            cells = line.removesuffix("\r").split("\t")
            if len(cells) < 3:
                raise DataError(f"{place}:{number}: found {line[:40]!r}; each line has three or more cells")
            yield cells
