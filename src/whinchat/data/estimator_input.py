"""Check the texts, labels and weights that a Python program hands over, as scikit-learn's estimators take them.

N: texts. K: labels.
"""

import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import DataConversionWarning

from whinchat.data.dataset import Corpus, DataReport, Split
from whinchat.data.splits import carve_splits
from whinchat.errors import DataError, RecipeError
from whinchat.recipe.field_types import name_fault

_PLAIN = "give strings, whole numbers or booleans"


class InputError(DataError, ValueError):
    """Texts or labels that ``Classifier`` cannot take; also a ``ValueError``, which scikit-learn's users expect."""


@dataclass(frozen=True)
class ClassLabels:
    """The labels of N texts.

    Attributes:
        classes: the K labels as they were given, sorted.
        names: the K labels as text, as a recipe has them; the name of the number 1.0 is "1".
        indices: index of the label of each text in ``classes``, N of them.
    """

    classes: NDArray[Any]
    names: tuple[str, ...]
    indices: tuple[int, ...]


def plain_texts(X: Any) -> tuple[str, ...]:  # noqa: N803  # scikit-learn's name
    """Return X as N plain strings.

    Raises:
        InputError: X is a single string or a table, is empty, or a row is no text that a model can read.
    """
    if isinstance(X, str | bytes):
        raise InputError("X: is one string; give a list of texts")
    if isinstance(X, dict | set | frozenset) or not isinstance(X, Iterable):
        raise InputError(f"X: is a {type(X).__name__}; give a list of texts")
    if (dimensions := getattr(X, "ndim", 1)) != 1:
        raise InputError(f"X: has {dimensions} dimensions; give one text for each row, such as one column of a table")
    texts = tuple(X)
    if not texts:
        raise InputError("X: holds no texts")
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            fault = "has no text" if _is_missing(text) else f"is a {type(text).__name__}, not a string"
            raise InputError(f"X: row {row} {fault}; give only strings")
        if not text.strip():
            raise InputError(f"X: row {row} is empty; leave empty texts out, since their labels would mean nothing")
        if not text.isascii() and (half := _half_character(text)):
            raise InputError(f"X: row {row} {half}")
    # Strings of numpy become plain ones.
    return tuple(map(str, texts))


def class_labels(y: Any, rows: int) -> ClassLabels:
    """Return the labels of ``rows`` texts.

    Raises:
        InputError: y has not one label for each text, a row holds no label, labels are of several types, or all labels
            are the same.
    """
    values = _labels(y, rows)
    first_row = {type(value): row for row, value in reversed(list(enumerate(values)))}
    if len(first_row) > 1 and set(first_row) != {int, float}:
        shown = ", ".join(f"row {row} a {kind.__name__}" for kind, row in sorted(first_row.items(), key=lambda i: i[1]))
        fault = f"y: holds labels of several types ({shown}); give only strings, only numbers or only booleans"
        raise InputError(fault)
    classes = sorted(set(values))
    if len(classes) < 2:
        raise InputError("y: holds 1 class, and a classifier needs 2 or more")
    position = {label: index for index, label in enumerate(classes)}
    dtype = getattr(y, "dtype", None)
    kept = dtype if isinstance(dtype, np.dtype) and dtype.kind in "biuf" else None
    names = tuple(str(int(label)) if type(label) in {int, float} else str(label) for label in classes)
    return ClassLabels(np.array(classes, dtype=kept), names, tuple(position[value] for value in values))


def known_labels(y: Any, rows: int, classes: NDArray[Any]) -> tuple[int, ...]:
    """Return the index in ``classes`` of the label of each of ``rows`` texts.

    Raises:
        InputError: y has not one label for each text, or a label is not in ``classes``.
    """
    values = _labels(y, rows)
    position = {label: index for index, label in enumerate(classes.tolist())}
    for row, value in enumerate(values):
        if value not in position:
            raise InputError(
                f"y: row {row} is {value!r}, which is not among the labels {', '.join(map(str, position))}"
            )
    return tuple(position[value] for value in values)


def hold_out(rows: Split, labels: ClassLabels, fraction: Any, seed: int, source: str) -> Corpus:
    """Return the rows to train on and, for ``fraction``, rows to calibrate on.

    Args:
        rows: the rows; those of weight 0 are left out.
        labels: the labels of the rows.
        fraction: share of the rows to calibrate on, from 0 to below 1.
        seed: of the choice.
        source: name of the rows, for messages.

    Raises:
        InputError: a label would have no row to train on.
        RecipeError: ``fraction`` is not a share that leaves rows to train on.
    """
    if isinstance(fraction, bool | str | None) or not 0 <= fraction < 1:
        raise RecipeError(f"validation_fraction: must lie from 0 to below 1; found {fraction!r}")
    if rows.weights:
        rows = rows.take([row for row, weight in enumerate(rows.weights) if weight > 0])
    train, validation = rows, None
    # A label with a single row is trained on, not held out.
    count = Counter(rows.labels)
    alone = [row for row, label in enumerate(rows.labels) if count[label] == 1]
    if validation_rows := round(fraction * len(rows)):
        common = rows.take([row for row, label in enumerate(rows.labels) if count[label] > 1])
        if validation_rows >= len(common):
            raise RecipeError(
                f"validation_fraction: {fraction} of {len(rows)} rows leaves too few to train on; lower it"
            )
        train, carved = carve_splits(common, {"validation": validation_rows}, seed, source)
        train, validation = _joined(train, rows.take(alone)), carved["validation"]
    if lost := sorted(set(range(len(labels.names))) - set(train.labels)):
        raise InputError(
            f"y: no row of {labels.names[lost[0]]!r} is left to train on, since rows of weight 0 are left out; "
            "add rows of it, or raise their weights"
        )
    return Corpus(source, None, train, validation, None, DataReport())


def row_weights(sample_weight: Any, rows: int) -> tuple[float, ...]:
    """Return the weight of each of ``rows`` texts; none for None.

    Raises:
        InputError: there is not one weight for each text, a weight is not finite or below zero, or all are zero.
    """
    if sample_weight is None:
        return ()
    try:
        weights = np.asarray(sample_weight, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError("sample_weight: holds something that is no number; give one number for each text") from None
    if weights.shape != (rows,):
        raise InputError(f"sample_weight: has the shape {weights.shape}; give one number for each of the {rows} texts")
    bad = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if len(bad):
        raise InputError(f"sample_weight: row {bad[0]} is {weights[bad[0]]}; weights are finite and zero or more")
    if not weights.any():
        raise InputError("sample_weight: every weight is 0, so nothing would train")
    return tuple(weights.tolist())


def _joined(first: Split, second: Split) -> Split:
    return Split(first.name, first.texts + second.texts, first.labels + second.labels, first.weights + second.weights)


def _labels(y: Any, rows: int) -> list[str | int | float | bool]:
    """Return the labels of ``rows`` texts as plain values."""
    values = [_label(value, row) for row, value in enumerate(_one_column(y))]
    if len(values) != rows:
        raise InputError(f"y: holds {len(values)} labels for {rows} texts; give one label for each text")
    return values


def _one_column(y: Any) -> list[Any]:
    if y is None:
        raise InputError("y: requires y to be passed, but the target y is None; give one label for each text")
    if isinstance(y, str | bytes | dict | set | frozenset) or not isinstance(y, Iterable):
        raise InputError(f"y: is a {type(y).__name__}; give a list with one label for each text")
    shape = getattr(y, "shape", None)
    if shape is None:
        values = list(y)
        is_column = bool(values) and all(isinstance(value, list | tuple) and len(value) == 1 for value in values)
    else:
        is_column = len(shape) == 2 and shape[1] == 1
        if len(shape) != 1 and not is_column:
            raise InputError(f"y: has the shape {tuple(shape)}; give one label for each text")
        array = np.asarray(y) if is_column else y
        values = array.tolist() if hasattr(array, "tolist") else list(array)
    if is_column:
        warning = "A column-vector y was passed when a 1d array was expected; give y of the shape (N,)."
        warnings.warn(warning, DataConversionWarning, stacklevel=5)
        return [value[0] for value in values]
    return values


def _label(value: Any, row: int) -> str | int | float | bool:
    """Return one label as a plain string, number or boolean."""
    if _is_missing(value):
        raise InputError(f"y: row {row} has no label; remove the row or label it")
    plain = value.item() if isinstance(value, np.generic) else value
    if isinstance(plain, bytes):
        raise InputError(f"y: row {row} is bytes; decode the labels, as with y.astype(str) or value.decode()")
    if isinstance(plain, Enum) or not isinstance(plain, str | int | float):
        raise InputError(f"y: row {row} is a {type(value).__name__}; {_PLAIN}")
    if isinstance(plain, str):
        fault = "is empty" if not plain.strip() else name_fault(plain)
        if fault:
            raise InputError(f"y: row {row} {fault}")
        return str(plain)
    if isinstance(plain, float) and not plain.is_integer():
        raise InputError(f"y: row {row} is {plain}; {_PLAIN}")
    return plain


def _half_character(text: str) -> str | None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        return f"holds half a character (at position {error.start}), often an emoji cut in two; repair the text"
    return None


def _is_missing(value: Any) -> bool:
    """Whether a value is None, NaN, or what pandas writes for a missing value."""
    if value is None or type(value).__name__ in {"NAType", "NaTType"}:
        return True
    # NaN and NaT are unlike themselves.
    return isinstance(value, float | np.floating | np.datetime64 | Decimal) and bool(value != value)  # noqa: PLR0124
