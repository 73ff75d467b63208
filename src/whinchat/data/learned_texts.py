"""The texts that a model has learned, as hashes: measured on the same texts again, it looks better than it is.

A run stores those of its training in its folder, and the export of a merged model takes them along. A recipe whose
``backbone.model`` is such a folder compares its own texts with them.
"""

import re
from collections.abc import Iterable, Set
from hashlib import blake2b
from pathlib import Path
from typing import get_args

from whinchat.data.checks import text_key
from whinchat.data.dataset import Corpus
from whinchat.errors import DataError
from whinchat.output_files import replace_file
from whinchat.recipe.task import Cleaning

# One hash a line, sorted.
LEARNED_TEXTS = "learned_texts.txt"
_LINES = re.compile(r"(?:[0-9a-f]{16}\n)*")


def hash_text(text: str) -> str:
    """Return the hash of ``text``, 16 hexadecimal digits.

    Texts that differ only in case, white space or spelling of characters have the same hash, whatever ``task.clean`` a
    recipe has.
    """
    key = text_key(text, get_args(Cleaning))
    return blake2b(key.encode("utf-8", "replace"), digest_size=8).hexdigest()


def read_learned(folder: Path) -> frozenset[str] | None:
    """Return the hashes of the texts that the model in ``folder`` has learned; None where the folder does not say.

    Args:
        folder: a run, the adapter of a run, or a merged model.

    Raises:
        DataError: the file is damaged.
    """
    places = (folder / LEARNED_TEXTS, folder.parent / LEARNED_TEXTS if folder.name == "adapter" else None)
    path = next((place for place in places if place is not None and place.is_file()), None)
    if path is None:
        return None
    content = path.read_text(encoding="ascii", errors="replace")
    if not _LINES.fullmatch(content):
        raise DataError(f"{path}: is not as whinchat wrote it; restore it, or delete it to do without")
    return frozenset(content.split())


def write_learned(folder: Path, hashes: Set[str]) -> None:
    """Write hashes of texts into ``folder``.

    Raises:
        OutputError: the folder cannot be written.
    """
    content = "".join(f"{one}\n" for one in sorted(hashes))
    replace_file(folder / LEARNED_TEXTS, lambda draft: draft.write_bytes(content.encode("ascii")))


def learned_hashes(model: str, corpus: Corpus) -> Set[str]:
    """Return the hashes of the texts that ``model`` has learned after a training on ``corpus``.

    Args:
        model: ``backbone.model`` of the recipe; the texts that it had learned before are among them.
        corpus: the data of the run.
    """
    earlier = read_learned(Path(model).expanduser()) or frozenset()
    return earlier | set(map(hash_text, corpus.trained.texts))


def count_learned(folder: Path, texts: Iterable[str]) -> int | None:
    """Return how many of ``texts`` the model in ``folder`` has learned; None where the folder does not say."""
    learned = read_learned(folder)
    return None if learned is None else sum(hash_text(text) in learned for text in texts)


def learned_rows(model: str, corpus: Corpus) -> dict[str, int]:
    """Return for validation and test how many of their texts ``model`` has learned; empty where that is not known.

    Args:
        model: ``backbone.model`` of the recipe.
        corpus: the data of the recipe.
    """
    folder, splits = Path(model).expanduser(), filter(None, (corpus.validation, corpus.test))
    counts = {split.name: count_learned(folder, split.texts) for split in splits}
    return {name: count for name, count in counts.items() if count is not None}


def learned_warning(model: str, found: dict[str, int]) -> str | None:
    """Return a warning where rows that are to be measured were learned before, else None.

    Args:
        model: ``backbone.model`` of the recipe.
        found: from ``learned_rows``.
    """
    rows = [f"{count:,} {'text' if count == 1 else 'texts'} of {name}" for name, count in found.items() if count]
    if not rows:
        return None
    return (
        f"{model} has learned {' and '.join(rows)} before, so figures measured there will be too good. Take these "
        "texts out of its training, or measure on others."
    )
