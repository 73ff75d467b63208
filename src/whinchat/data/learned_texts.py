"""The texts that a model has learned, as hashes: measured on the same texts again, it looks better than it is.

A run stores those of its training in its folder, and the export of a merged model takes them along. A recipe whose
``backbone.model`` is such a folder compares its own texts with them.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from hashlib import blake2b
from pathlib import Path

from whinchat.data.checks import text_key
from whinchat.data.dataset import Corpus, Split
from whinchat.data.rows import reading
from whinchat.errors import DataError
from whinchat.output_files import replace_file
from whinchat.recipe.task import Cleaning
from whinchat.wording import counted, name_rows

# One hash a line, sorted. The suffix is none of those that the files of a model have.
LEARNED_TEXTS = "learned_texts.hashes"
# Never changed, since the hashes of earlier runs were made with these.
_STEPS: tuple[Cleaning, ...] = ("html_entities", "json_escapes", "spaces")
_TWEET_STEPS: tuple[Cleaning, ...] = ("mentions", "links")
_LINES = re.compile(r"(?:[0-9a-f]{16}\n)*")


def hash_text(text: str) -> str:
    """Return the hash of ``text``, 16 hexadecimal digits.

    Texts that differ only in case, white space, spelling of characters, mentions or links have the same hash, whatever
    ``task.clean`` a recipe has. Texts of mentions and links alone are told apart by them.
    """
    key = text_key(text, (*_STEPS, *_TWEET_STEPS))
    if not re.search(r"\w", key.replace("@user", "").replace("http", "")):
        key = text_key(text, _STEPS)
    return blake2b(key.encode("utf-8", "replace"), digest_size=8).hexdigest()


def read_learned(model: str | Path) -> frozenset[str] | None:
    """Return the hashes of the texts that a model has learned; None where nothing says so.

    Args:
        model: a run, the adapter of a run, a merged model, or any other ``backbone.model``.

    Raises:
        DataError: the file is damaged, or cannot be read.
    """
    folder = Path(model).expanduser().resolve()
    places = (folder / LEARNED_TEXTS, folder.parent / LEARNED_TEXTS if folder.name == "adapter" else None)
    for path in places:
        if path is not None and path.is_file():
            with reading(path):
                content = path.read_text(encoding="ascii", errors="replace")
            if not _LINES.fullmatch(content):
                raise DataError(f"{path}: is not as whinchat wrote it; restore it, or delete it to do without")
            return frozenset(content.split())
    return None


def write_learned(folder: Path, hashes: Collection[str]) -> None:
    """Write hashes of texts into ``folder``.

    Raises:
        OutputError: the folder cannot be written.
    """
    content = "".join(f"{one}\n" for one in sorted(hashes))
    replace_file(folder / LEARNED_TEXTS, lambda draft: draft.write_bytes(content.encode("ascii")))


def learned_after(model: str, corpus: Corpus) -> Set[str] | None:
    """Return the hashes of all texts that ``model`` has learned after a training on ``corpus``.

    None for a model that whinchat exported without saying what it had learned, since a part would pass for the whole.

    Args:
        model: ``backbone.model`` of the recipe.
        corpus: the data of the run.
    """
    earlier = read_learned(model)
    if earlier is None and (Path(model).expanduser() / "recipe.yaml").is_file():
        return None
    return (earlier or frozenset()) | set(map(hash_text, corpus.trained.texts))


def find_learned(learned: Set[str], texts: Iterable[str]) -> list[int]:
    """Return the indices of the texts whose hashes are among ``learned``."""
    return [index for index, text in enumerate(texts) if hash_text(text) in learned]


def learned_rows(model: str, *splits: Split | None) -> dict[str, list[int]]:
    """Return the rows of splits whose texts a model has learned before.

    Args:
        model: ``backbone.model`` of the recipe.
        splits: the splits to search; None is passed over, and of two with one name the last counts.

    Returns:
        Name of the split -> indices of its rows; empty where it is not known what the model has learned.
    """
    learned = read_learned(model)
    if learned is None:
        return {}
    named = {split.name: split for split in splits if split is not None}
    return {name: find_learned(learned, split.texts) for name, split in named.items()}


def count_learned(model: str, split: Split) -> int | None:
    """Return how many texts of ``split`` a model has learned before; None where it is not known what it has learned."""
    rows = learned_rows(model, split).get(split.name)
    return None if rows is None else len(rows)


def learned_warning(model: str, found: Mapping[str, Sequence[int]]) -> str | None:
    """Return a warning where rows were learned before on which something is measured or chosen, else None.

    Args:
        model: ``backbone.model`` of the recipe.
        found: from ``learned_rows``.
    """
    rows = [
        f"{counted(len(places), 'text')} of {name} ({name_rows(places)})" for name, places in found.items() if places
    ]
    if not rows:
        return None
    return (
        f"{model} has learned {' and '.join(rows)} before, so figures measured there will be too good. Take these "
        "texts out of its training, or measure on others."
    )
