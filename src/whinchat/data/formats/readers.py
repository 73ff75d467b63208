"""Readers of text files: TweetEval folders, CSV and TSV, JSON Lines, and VADER's rated tweets."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from whinchat.data.rows import Row, label_value, read_text, require_column, text_lines, text_value
from whinchat.errors import DataError
from whinchat.recipe.schema import DataConfig

_TWEETEVAL_NAMES = {"train": "train", "validation": "val", "test": "test"}
_VADER_BORDER = 0.5


def read_tweeteval(folder: Path) -> dict[str, tuple[Row, ...]]:
    """Splits of a folder in TweetEval's format: ``{split}_text.txt``, ``{split}_labels.txt``, ``mapping.txt``.

    Without ``mapping.txt`` the label ids stand for themselves, to be mapped by ``data.label_map``.

    Raises:
        DataError: no train split, a file without its partner, unequal line counts, an id that is not in the mapping.

    Source: TweetEval (arXiv:2010.12421), repository cardiffnlp/tweeteval.
    """
    mapping_file = folder / "mapping.txt"
    mapping = _tweeteval_mapping(mapping_file) if mapping_file.is_file() else None
    splits = {}
    for name, short in _TWEETEVAL_NAMES.items():
        texts, labels = folder / f"{short}_text.txt", folder / f"{short}_labels.txt"
        if texts.is_file() or labels.is_file():
            splits[name] = _tweeteval_split(texts, labels, mapping)
    if "train" not in splits:
        raise DataError(f"{folder}: no train_text.txt and train_labels.txt; a TweetEval folder must have a train split")
    return splits


def _tweeteval_mapping(path: Path) -> dict[str, str]:
    mapping = {}
    for number, line in enumerate(text_lines(path), 1):
        if not line.strip():
            continue
        label_id, tab, name = line.partition("\t")
        if not tab or not name.strip() or label_id.strip() in mapping:
            raise DataError(f"{path}:{number}: found {line!r}; each line must read ID<TAB>NAME, each id once")
        mapping[label_id.strip()] = name.strip()
    return mapping


def _tweeteval_split(text_file: Path, label_file: Path, mapping: dict[str, str] | None) -> tuple[Row, ...]:
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


def read_delimited(path: Path, data: DataConfig) -> tuple[Row, ...]:
    """Rows of a CSV file, or of a TSV file by its suffix; the first line names the columns.

    Quoting is that of the csv module: a quoted text may hold delimiters, line breaks and doubled quotes.

    Raises:
        DataError: missing column, a row with too many or too few fields, a broken quote.
    """
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    # newline="" leaves line breaks inside quotes as they are; reading by lines keeps U+2028 whole.
    reader = csv.reader(io.StringIO(read_text(path), newline=""), delimiter=delimiter, strict=True)
    rows: list[Row] = []
    header: list[str] = []
    line = 0
    try:
        for fields in reader:
            first_line, line = line + 1, reader.line_num
            if not fields:
                continue
            if not header:
                header = _header(fields, data, delimiter, path)
                continue
            if len(fields) != len(header):
                raise DataError(
                    f"{path}:{first_line}: {len(fields)} fields where the header has {len(header)}; "
                    'put a text with delimiters or line breaks in "quotes"'
                )
            cells = dict(zip(header, fields, strict=True))
            rows.append(Row(cells[data.text_column], cells[data.label_column], f"{path}:", first_line))
    except csv.Error as fault:
        raise DataError(
            f'{path}:{line + 1}: cannot be parsed from here on ({fault}); inside a quoted text, double each quote: ""'
        ) from fault
    return _some(rows, path)


def _header(fields: list[str], data: DataConfig, delimiter: str, path: Path) -> list[str]:
    header = [name.strip() for name in fields]
    if len(header) == 1 and any(other in header[0] for other in ",;\t|"):
        wanted = "tabs" if delimiter == "\t" else "commas (or tabs, in a file called .tsv)"
        raise DataError(f"{path}:1: the header {header[0]!r} is not separated by {wanted}; save it so")
    require_column(data.text_column, header, "data.text_column", f"{path}:1")
    require_column(data.label_column, header, "data.label_column", f"{path}:1")
    return header


def read_jsonl(path: Path, data: DataConfig) -> tuple[Row, ...]:
    """Rows of a JSON Lines file: one object a line; blank lines are passed over.

    Raises:
        DataError: a line that is not JSON or not an object, a missing key, a value of the wrong kind.
    """
    rows = []
    for number, line in enumerate(text_lines(path), 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            cells = json.loads(line)
        except json.JSONDecodeError as fault:
            raise DataError(
                f"{where}: not valid JSON at column {fault.colno} ({fault.msg}); each line must hold one object"
            ) from None
        except RecursionError:
            raise DataError(f"{where}: JSON nested too deeply; each line must hold one flat object") from None
        if not isinstance(cells, dict):
            raise DataError(
                f"{where}: holds a {type(cells).__name__}; each line must hold one object such as "
                f'{{"{data.text_column}": "...", "{data.label_column}": "..."}}'
            )
        require_column(data.text_column, list(cells), "data.text_column", where)
        require_column(data.label_column, list(cells), "data.label_column", where)
        text = text_value(cells[data.text_column], data.text_column, where)
        label = label_value(cells[data.label_column], data.label_column, where)
        rows.append(Row(text, label, f"{path}:", number))
    return _some(rows, path)


def _some(rows: list[Row], path: Path) -> tuple[Row, ...]:
    if not rows:
        raise DataError(f"{path}: has no rows; point data.source at a file with some")
    return tuple(rows)


def read_vader(path: Path) -> tuple[Row, ...]:
    """VADER's tweets, each with the mean of 20 ratings from -4 to 4, as negative, neutral or positive.

    A mean of at least 0.5 either way takes a side. That border is ours; it gives 2,345 positive, 768 neutral and
    1,087 negative rows.

    Raises:
        DataError: a line that is not ID<TAB>MEAN<TAB>TEXT.

    Source: Hutto and Gilbert, VADER (ICWSM 2014), file tweets_GroundTruth.txt.
    """
    rows = []
    for number, line in enumerate(text_lines(path), 1):
        parts = line.split("\t", 2)
        try:
            mean, text = float(parts[1]), parts[2]
        except (IndexError, ValueError):
            raise DataError(f"{path}:{number}: found {line[:40]!r}; each line must read ID<TAB>MEAN<TAB>TEXT") from None
        side = "positive" if mean > 0 else "negative"
        rows.append(Row(text, side if abs(mean) >= _VADER_BORDER else "neutral", f"{path}:", number))
    return tuple(rows)
