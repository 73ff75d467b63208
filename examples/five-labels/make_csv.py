"""Write ``tweets.csv``, a table such as a user might have: a text and one of five labels in each row.

VADER's 4,200 tweets (MIT licence, taken from PyPI) carry the mean of 20 people's ratings from -4 to 4. Here the mean
becomes one of five labels.

    .venv/bin/python examples/five-labels/make_csv.py
"""

import csv
from pathlib import Path

from whinchat.data.packages import fetch_package_file

# Highest rating of each label.
BORDERS = {"very negative": -1.5, "negative": -0.5, "neutral": 0.5, "positive": 1.5, "very positive": 4.0}
TARGET = Path(__file__).with_name("tweets.csv")


def write_csv(rated: Path, target: Path) -> None:
    """VADER's lines (number, mean rating, text, parted by tabs) as a table of texts and labels."""
    with rated.open(encoding="utf-8") as lines, target.open("w", encoding="utf-8", newline="") as out:
        table = csv.writer(out)
        table.writerow(["text", "feeling"])
        for line in lines:
            _, rating, text = line.rstrip("\n").split("\t", 2)
            table.writerow([text, next(label for label, border in BORDERS.items() if float(rating) <= border)])


if __name__ == "__main__":
    write_csv(fetch_package_file("vader-tweets"), TARGET)
    print(f"wrote {TARGET}")
