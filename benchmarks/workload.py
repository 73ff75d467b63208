"""The texts of all contestants. The driver reads them, since 45,000 tweets would count as a worker's memory."""

import os
from pathlib import Path
from typing import Any

from whinchat.data.dataset import Split
from whinchat.data.sources import load_corpus
from whinchat.recipe.loader import load_recipe

RECIPE = "smollm2-lora-tweeteval"
DEFAULT_DATA = Path("../shared/data/tweeteval/sentiment")


def read_workload(rows: int, data: str | None = None) -> tuple[Split, dict[str, str]]:
    """Return the first training tweets of TweetEval sentiment, or VADER's where its folder is missing.

    The texts are returned with their source and a description.

    Args:
        rows: number of rows; a source with fewer rows is repeated.
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
    train = corpus.train
    if rows > len(train):
        description += f" ({len(train)} of them, repeated)"
    chosen = train.take([row % len(train) for row in range(rows)])
    return chosen, {"source": str(corpus.source), "description": description}


def evenly(split: Split, rows: int) -> Split:
    """Return ``rows`` rows drawn evenly over the order of text length, whose mean length is about that of all rows."""
    if rows >= len(split):
        return split
    by_length = sorted(range(len(split)), key=lambda row: (len(split.texts[row]), row))
    return split.take(sorted(by_length[int((index + 0.5) * len(split) / rows)] for index in range(rows)))


def cut_to_tokens(split: Split, tokens: int, tokenizer: Any) -> Split:
    """Return each text joined with the following texts until it is long enough, and cut to ``tokens`` tokens.

    The cut falls between two tokens of the joined text, so a text may come out a token or two longer where its end is
    tokenized differently alone.
    """
    count = len(split)
    texts = []
    for row in range(count):
        joined, offsets = "", []
        for step in range(row, row + 1 + tokens):
            joined = f"{joined} {split.texts[step % count]}".strip()
            offsets = tokenizer(joined, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
            if len(offsets) >= tokens:
                break
        texts.append(joined[: offsets[tokens - 1][1]] if len(offsets) >= tokens else joined)
    return Split(split.name, tuple(texts), split.labels)
