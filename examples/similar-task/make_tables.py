"""Write ``tweets.csv`` and ``ratings.csv``: texts with the sentiment that people saw in them.

VADER's source archive on PyPI (MIT licence) holds tweets and sentences of film reviews, product reviews and editorials,
each with the ratings of at least 20 people from -4 to 4. ``tweets.csv`` has a label for each tweet: neutral where the
mean is nearer to zero than 0.5. ``ratings.csv`` has, for 8,000 of the other sentences, the shares of the people who
rated them below, at and above zero, as ``data.soft_labels`` reads them.

    .venv/bin/pip download --no-deps --no-binary :all: vaderSentiment==3.3.2
    .venv/bin/python examples/similar-task/make_tables.py vaderSentiment-3.3.2.tar.gz
"""

import ast
import csv
import io
import random
import sys
import tarfile
from collections.abc import Iterable
from pathlib import Path

FOLDER = Path(__file__).parent
TWEETS = "tweets"
OTHERS = ("amazonReviewSnippets", "movieReviewSnippets", "nytEditorialSnippets")
# A training of minutes; what more sentences would gain was not measured.
MOST_OTHERS = 8000


def read_lines(archive: tarfile.TarFile, name: str) -> list[list[str]]:
    """Return the cells of each line of a file with tabs."""
    member = archive.extractfile(f"hutto_ICWSM_2014/{name}.txt")
    assert member is not None
    return [line.rstrip("\n").split("\t") for line in io.TextIOWrapper(member, encoding="utf-8", errors="replace")]


def sides(ratings: list[int]) -> tuple[float, float, float]:
    """Return the shares of ratings below, at and above zero."""
    of = len(ratings)
    return sum(r < 0 for r in ratings) / of, sum(r == 0 for r in ratings) / of, sum(r > 0 for r in ratings) / of


def write_table(path: Path, header: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Write a CSV file."""
    with path.open("w", encoding="utf-8", newline="") as out:
        table = csv.writer(out)
        table.writerow(header)
        table.writerows(rows)


def write_tables(package: Path, folder: Path) -> None:
    """Write both tables into ``folder`` from the source archive of vaderSentiment."""
    labelled, rated = [], []
    with tarfile.open(package) as outer:
        inner = outer.extractfile("vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz")
        assert inner is not None
        with tarfile.open(fileobj=inner) as archive:
            for _, mean, *text in read_lines(archive, f"{TWEETS}_GroundTruth"):
                side = "positive" if float(mean) > 0 else "negative"
                labelled.append(("\t".join(text), side if abs(float(mean)) >= 0.5 else "neutral"))
            for name in OTHERS:
                ratings = {number: cells[-1] for number, *cells in read_lines(archive, f"{name}_anonDataRatings")}
                for number, _, *text in read_lines(archive, f"{name}_GroundTruth"):
                    if number in ratings:
                        rated.append(("\t".join(text), *sides(ast.literal_eval(ratings[number]))))
    random.Random(0).shuffle(rated)
    write_table(folder / "tweets.csv", ("text", "label"), labelled)
    columns = ("text", "p_negative", "p_neutral", "p_positive")
    write_table(folder / "ratings.csv", columns, rated[:MOST_OTHERS])


if __name__ == "__main__":
    write_tables(Path(sys.argv[1]), FOLDER)
    print(f"wrote {FOLDER / 'tweets.csv'} and {FOLDER / 'ratings.csv'}")
