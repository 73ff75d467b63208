"""Draw the sample of rows on which costly measurements are made."""

from collections.abc import Sequence
from hashlib import blake2b


def sample_rows(texts: Sequence[str], rows: int | None, seed: int) -> list[int]:
    """Return the indices of a random sample, in rising order; the same for the same arguments.

    The draw is random because the rows of a file may be sorted by label. It takes the texts with the lowest hashes, so
    the samples of overlapping sets of texts, such as those of several questions, share most of their texts.

    Args:
        texts: the text of each row.
        rows: size of the sample; None returns all rows.
        seed: seed of the draw.
    """
    if rows is None or rows >= len(texts):
        return list(range(len(texts)))
    hashes = [blake2b(f"{seed}-{text}".encode()).digest() for text in texts]
    return sorted(sorted(range(len(texts)), key=hashes.__getitem__)[:rows])
