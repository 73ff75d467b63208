"""Write ``ratings.csv``: sentences with the shares of the people who rated them negative, neutral and positive.

VADER's source archive on PyPI (MIT licence) holds sentences of film reviews, product reviews and editorials, each with
the ratings of at least 20 people from -4 to 4. The table has 8,000 of them with the shares of ratings below, at and
above zero, as ``data.soft_labels`` reads them.

    .venv/bin/pip download --no-deps --no-binary :all: vaderSentiment==3.3.2
    .venv/bin/python examples/similar-task/make_table.py vaderSentiment-3.3.2.tar.gz
"""

import ast
import csv
import io
import random
import sys
import tarfile
from pathlib import Path

TARGET = Path(__file__).with_name("ratings.csv")
COLLECTIONS = ("amazonReviewSnippets", "movieReviewSnippets", "nytEditorialSnippets")
# A training of minutes; what more sentences would gain was not measured.
MOST_SENTENCES = 8000


def read_lines(archive: tarfile.TarFile, name: str) -> list[list[str]]:
    """Return the cells of each line of a file with tabs."""
    member = archive.extractfile(f"hutto_ICWSM_2014/{name}.txt")
    assert member is not None
    return [line.rstrip("\n").split("\t") for line in io.TextIOWrapper(member, encoding="utf-8", errors="replace")]


def sides(ratings: list[int]) -> tuple[float, float, float]:
    """Return the shares of ratings below, at and above zero."""
    of = len(ratings)
    return sum(r < 0 for r in ratings) / of, sum(r == 0 for r in ratings) / of, sum(r > 0 for r in ratings) / of


def write_table(package: Path, target: Path) -> None:
    """Write the table from the source archive of vaderSentiment."""
    rated = []
    with tarfile.open(package) as outer:
        inner = outer.extractfile("vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz")
        assert inner is not None
        with tarfile.open(fileobj=inner) as archive:
            for name in COLLECTIONS:
                ratings = {number: cells[-1] for number, *cells in read_lines(archive, f"{name}_anonDataRatings")}
                for number, _, *text in read_lines(archive, f"{name}_GroundTruth"):
                    if number in ratings:
                        rated.append(("\t".join(text), *sides(ast.literal_eval(ratings[number]))))
    random.Random(0).shuffle(rated)
    with target.open("w", encoding="utf-8", newline="") as out:
        table = csv.writer(out)
        table.writerow(("text", "p_negative", "p_neutral", "p_positive"))
        table.writerows(rated[:MOST_SENTENCES])


if __name__ == "__main__":
    write_table(Path(sys.argv[1]), TARGET)
    print(f"wrote {TARGET}")
