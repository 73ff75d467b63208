"""Reader of folders in the format of TweetEval (arXiv:2010.12421)."""

from pathlib import Path

from whinchat.data.rows import Row, text_lines
from whinchat.errors import DataError

# Split -> how TweetEval's file names begin.
_FILE_PREFIXES = {"train": "train", "validation": "val", "test": "test"}


def read_tweeteval(folder: Path) -> dict[str, tuple[Row, ...]]:
    """Read the splits of a folder that holds ``{split}_text.txt``, ``{split}_labels.txt`` and ``mapping.txt``.

    Without ``mapping.txt`` the labels are the ids themselves, which ``data.label_map`` can map to names.

    Raises:
        DataError: no train split, a file without its partner, unequal line counts, an id that is not in the mapping.

    Source: TweetEval (arXiv:2010.12421), repository cardiffnlp/tweeteval.
    """
    mapping_file = folder / "mapping.txt"
    mapping = _read_mapping(mapping_file) if mapping_file.is_file() else None
    splits = {}
    for name, short in _FILE_PREFIXES.items():
        texts, labels = folder / f"{short}_text.txt", folder / f"{short}_labels.txt"
        if texts.is_file() or labels.is_file():
            splits[name] = _read_split(texts, labels, mapping)
    if "train" not in splits:
        raise DataError(f"{folder}: no train_text.txt and train_labels.txt; a TweetEval folder must have a train split")
    return splits


def _read_mapping(path: Path) -> dict[str, str]:
    mapping = {}
    for number, line in enumerate(text_lines(path), 1):
        if not line.strip():
            continue
        label_id, tab, name = line.partition("\t")
        if not tab or not name.strip() or label_id.strip() in mapping:
            raise DataError(f"{path}:{number}: found {line!r}; each line must read ID<TAB>NAME, each id once")
        mapping[label_id.strip()] = name.strip()
    return mapping


def _read_split(text_file: Path, label_file: Path, mapping: dict[str, str] | None) -> tuple[Row, ...]:
    texts, labels = text_lines(text_file), text_lines(label_file)
    if len(texts) != len(labels):
        raise DataError(
            f"{text_file} has {len(texts)} lines but {label_file} has {len(labels)}; "
            "line N of one belongs to line N of the other, so the counts must be equal"
        )
    rows = []
    for number, (text, label) in enumerate(zip(texts, labels, strict=True), 1):
        label_id = label.strip()
        if mapping is not None and label_id not in mapping:
            known = ", ".join(mapping)
            raise DataError(f"{label_file}:{number}: label id {label_id!r} is not in mapping.txt, which has {known}")
        rows.append(Row(text, mapping[label_id] if mapping else label_id, f"{text_file}:", number))
    return tuple(rows)
