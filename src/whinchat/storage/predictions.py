"""The predictions for every evaluated row, before and after training, as one Parquet file.

N: rows. K: labels. Columns:

- ``row``, ``text``, ``label`` (the true one).
- ``answer_label``, ``answer_prob_LABEL``, ``answer_unsure``: what ``whinchat predict`` answers. The probabilities are
  calibrated, by cross-fitting where the calibrator was fitted on the same rows. A run without a validation split has
  no such columns, because it answers by label scoring.
- With the prefix ``before_`` and ``after_``, label scoring and free generation before and after training: ``label``
  (the one with the highest score), ``log_prob_LABEL`` (natural logarithm, over all strings), ``prob_LABEL`` (normalized
  over the K labels), ``generated`` (null for a row that free generation left out), and two readings of it that are
  null for an answer that names no label:
  ``generated_label`` (the whole answer) and ``first_word_label`` (the label that occurs first in it).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from whinchat.errors import RunError
from whinchat.evaluation.results import Prediction
from whinchat.output_files import replace_file

_LABELS_KEY = b"whinchat.labels"


@dataclass(frozen=True)
class StoredPredictions:
    """The content of one file.

    ``expected`` holds the true labels as indices into ``labels``. ``before`` is None in a file without predictions
    before training.
    """

    labels: tuple[str, ...]
    texts: tuple[str, ...]
    expected: tuple[int, ...]
    before: tuple[Prediction, ...] | None
    after: tuple[Prediction, ...]


def write_predictions(
    path: Path,
    labels: Sequence[str],
    texts: Sequence[str],
    expected: Sequence[int],
    before: Sequence[Prediction] | None,
    after: Sequence[Prediction],
) -> None:
    """Write one row for each text.

    Args:
        path: the file.
        labels: K label names.
        texts: N texts.
        expected: true labels as indices, N.
        before, after: N predictions before and after training; None for ``before`` to leave its columns out.

    Raises:
        RunError: the numbers of texts and predictions differ, or those of labels and log-probabilities.
    """
    columns: dict[str, Any] = {
        "row": pa.array(range(len(texts)), pa.int64()),
        "text": pa.array(texts, pa.string()),
        "label": pa.array([labels[index] for index in expected], pa.string()),
    }
    if all(row.probabilities is not None for row in after):
        columns |= _answer_columns(labels, after)
    for prefix, rows in (("before", before), ("after", after)):
        if rows is None:
            continue
        if not len(rows) == len(texts) == len(expected):
            raise RunError(
                f"{path}: {len(rows)} predictions {prefix} training, {len(texts)} texts and {len(expected)} labels; "
                "the numbers must be equal, so this is a bug in whinchat; please report it"
            )
        columns |= _columns(path, prefix, labels, rows)
    content = pa.table(columns).replace_schema_metadata({_LABELS_KEY: json.dumps(list(labels)).encode()})
    replace_file(path, lambda draft: pq.write_table(content, draft, compression="zstd"))


def read_predictions(path: Path) -> StoredPredictions:
    """Read the file that ``write_predictions`` wrote.

    Raises:
        RunError: the file is missing, is no Parquet file, or was not written by whinchat.
    """
    if not path.is_file():
        raise RunError(f"{path}: missing; finish the run with `whinchat run {path.parent}/recipe.yaml --resume`")
    try:
        content = pq.read_table(path)
    except pa.ArrowInvalid as error:
        raise RunError(f"{path}: not a Parquet file ({error}); run again with --overwrite") from None
    stored_labels = (content.schema.metadata or {}).get(_LABELS_KEY)
    if stored_labels is None:
        raise RunError(f"{path}: names no labels, so whinchat did not write it; give predictions.parquet of a run")
    labels = tuple(json.loads(stored_labels))
    index_of = {label: index for index, label in enumerate(labels)}
    return StoredPredictions(
        labels=labels,
        texts=tuple(content["text"].to_pylist()),
        expected=tuple(index_of[label] for label in content["label"].to_pylist()),
        before=_rows(content, "before", labels) if "before_label" in content.column_names else None,
        after=_rows(content, "after", labels),
    )


def _answer_columns(labels: Sequence[str], rows: Sequence[Prediction]) -> dict[str, Any]:
    shown = np.array([row.probabilities for row in rows], dtype=np.float64).reshape(len(rows), len(labels))  # (N, K)
    return {
        "answer_label": pa.array([labels[row.answer] for row in rows], pa.string()),
        **{f"answer_prob_{label}": pa.array(shown[:, k]) for k, label in enumerate(labels)},
        "answer_unsure": pa.array([row.unsure for row in rows], pa.bool_()),
    }


def _columns(path: Path, prefix: str, labels: Sequence[str], rows: Sequence[Prediction]) -> dict[str, Any]:
    widths = {len(row.log_probs) for row in rows} or {len(labels)}
    if widths != {len(labels)}:
        raise RunError(
            f"{path}: a prediction has {widths.pop()} log-probabilities for {len(labels)} labels; "
            "this is a bug in whinchat; please report it"
        )
    log_probs = np.array([row.log_probs for row in rows], dtype=np.float64).reshape(len(rows), len(labels))  # (N, K)
    weights = np.exp(log_probs - log_probs.max(axis=1, keepdims=True, initial=-np.inf))
    shares = weights / weights.sum(axis=1, keepdims=True)
    columns: dict[str, Any] = {f"{prefix}_label": pa.array([labels[k] for k in log_probs.argmax(axis=1)], pa.string())}
    columns |= {f"{prefix}_log_prob_{label}": pa.array(log_probs[:, k]) for k, label in enumerate(labels)}
    columns |= {f"{prefix}_prob_{label}": pa.array(shares[:, k]) for k, label in enumerate(labels)}
    columns[f"{prefix}_generated"] = pa.array([row.generated for row in rows], pa.string())
    readings = {
        "generated_label": [row.generated_label for row in rows],
        "first_word_label": [row.first_word_label for row in rows],
    }
    for name, indices in readings.items():
        if any(row.generated is not None and index is None for row, index in zip(rows, indices, strict=True)):
            continue  # the predictions of an earlier version, before training, have one reading only
        names = [None if index is None or index < 0 else labels[index] for index in indices]
        columns[f"{prefix}_{name}"] = pa.array(names, pa.string())
    return columns


def _rows(content: Any, prefix: str, labels: tuple[str, ...]) -> tuple[Prediction, ...]:
    index_of = {label: index for index, label in enumerate(labels)}
    log_probs = zip(*(content[f"{prefix}_log_prob_{label}"].to_pylist() for label in labels), strict=True)
    generated = content[f"{prefix}_generated"].to_pylist()
    # A null label marks an answer that is no label; a null answer, that the row was left out.
    readings = [
        [None if answer is None else index_of.get(label, -1) for answer, label in zip(generated, column, strict=True)]
        for column in (content[name].to_pylist() for name in _reading_columns(content, prefix))
    ]
    rows = tuple(Prediction(*row) for row in zip(log_probs, generated, *readings, strict=True))
    if prefix == "before" or "answer_label" not in content.column_names:
        return rows
    probabilities = zip(*(content[f"answer_prob_{label}"].to_pylist() for label in labels), strict=True)
    shown = zip(rows, probabilities, content["answer_unsure"].to_pylist(), strict=True)
    return tuple(replace(row, probabilities=shares, unsure=unsure) for row, shares, unsure in shown)


def _reading_columns(content: Any, prefix: str) -> list[str]:
    """The columns with readings of the answers; files of earlier versions have the first one only."""
    names = (f"{prefix}_generated_label", f"{prefix}_first_word_label")
    return [name for name in names if name in content.column_names]
