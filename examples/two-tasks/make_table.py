"""Join TweetEval's tasks emotion and sentiment to one table, in which each tweet has the answer to its own task only.

python examples/two-tasks/make_table.py ../shared/data/tweeteval two-tasks
"""

import argparse
import csv
from pathlib import Path

# Task -> split of the table -> file of the task, first row and number of rows. Sentiment's own test split is not used:
# its validation tweets are measured, and the tweets to calibrate on come from train.
ROWS = {
    "emotion": {"train": ("train", 0, None), "validation": ("val", 0, None), "test": ("test", 0, None)},
    "sentiment": {"train": ("train", 0, 3000), "validation": ("train", 3000, 500), "test": ("val", 0, 2000)},
}


def main() -> None:
    """Write train.csv, validation.csv and test.csv."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tweeteval", type=Path, help="folder with TweetEval's tasks, such as emotion/train_text.txt")
    parser.add_argument("out", type=Path, help="folder to write to")
    parser.add_argument("--most", type=int, help="use this many rows of each task in each split at most")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for split in ("train", "validation", "test"):
        with (arguments.out / f"{split}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("text", *ROWS))
            for task, places in ROWS.items():
                source, first, count = places[split]
                rows = read_rows(arguments.tweeteval / task, source)[first:]
                for text, label in rows[:count][: arguments.most]:
                    writer.writerow((text, *(label if task == column else "" for column in ROWS)))


def read_rows(folder: Path, split: str) -> list[tuple[str, str]]:
    """Return texts and label names of one split of a task."""
    mapping = (folder / "mapping.txt").read_text(encoding="utf-8").splitlines()
    names = dict(line.split("\t") for line in mapping if line.strip())
    texts, labels = (
        (folder / f"{split}_{kind}.txt").read_text(encoding="utf-8").rstrip("\n").split("\n")
        for kind in ("text", "labels")
    )
    return [(text, names[label.strip()].strip()) for text, label in zip(texts, labels, strict=True)]


if __name__ == "__main__":
    main()
