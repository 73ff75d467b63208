"""The texts that all contestants get: read once by the driver, kept in a file that workers read.

Workers do not read the data set themselves: 45,000 tweets would count as their memory.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from whinchat.data.dataset import Split
from whinchat.data.sources import load_corpus
from whinchat.recipe.loader import load_recipe

RECIPE = "smollm2-lora-tweeteval"
DEFAULT_DATA = Path("../shared/data/tweeteval/sentiment")


@dataclass(frozen=True)
class Workload:
    """Labelled texts and where they came from; ``labels[i]`` indexes the recipe's labels."""

    source: str
    description: str
    texts: tuple[str, ...]
    labels: tuple[int, ...]

    def split(self, rows: int | None = None) -> Split:
        """The first ``rows`` rows."""
        return Split("train", self.texts[:rows], self.labels[:rows])

    def save(self, path: Path) -> None:
        """Write it for the workers."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Workload:
        """What ``save`` wrote."""
        raw = json.loads(path.read_text(encoding="utf-8"))
        return cls(raw["source"], raw["description"], tuple(raw["texts"]), tuple(raw["labels"]))


def read_workload(rows: int, data: str | None = None) -> Workload:
    """The first ``rows`` training tweets of TweetEval sentiment where its folder is there, else VADER's.

    Args:
        rows: how many; where the source has fewer, it starts again from its first.
        data: the folder; by default ``$WHINCHAT_TWEETEVAL``, then ``../shared/data/tweeteval/sentiment``.

    Raises:
        DataError: a folder was named and cannot be read.
    """
    named = data or os.environ.get("WHINCHAT_TWEETEVAL")
    folder = Path(named).expanduser() if named else DEFAULT_DATA
    if named or folder.is_dir():
        corpus = load_corpus(load_recipe(RECIPE, [f"data.source={folder}", "data.config=null"]))
        description = "TweetEval sentiment, first training tweets"
    else:
        corpus = load_corpus(load_recipe("demo", ["data.train_rows=null"]))
        description = "VADER's rated tweets, first training tweets of the recipe demo"
    found = corpus.train
    wanted = [row % len(found) for row in range(rows)]
    if rows > len(found):
        description += f" ({len(found)} of them, repeated)"
    chosen = found.take(wanted)
    return Workload(str(corpus.source), description, chosen.texts, chosen.labels)


def evenly(split: Split, rows: int) -> Split:
    """``rows`` rows drawn evenly over the order of text length, so that few texts are as long as many on average."""
    if rows >= len(split):
        return split
    by_length = sorted(range(len(split)), key=lambda row: (len(split.texts[row]), row))
    picked = [by_length[int((place + 0.5) * len(split) / rows)] for place in range(rows)]
    return split.take(sorted(picked))
