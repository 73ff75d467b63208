"""Reader of the tweets that were rated for VADER (Hutto and Gilbert, ICWSM 2014)."""

from pathlib import Path

from whinchat.data.rows import Row, text_lines
from whinchat.errors import DataError

# Mean rating from which a tweet counts as positive; below its negative, a tweet counts as negative.
_BORDER = 0.5


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
