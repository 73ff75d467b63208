"""Turn labels as the source spells them into indices into ``task.labels``."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from whinchat.data.dataset import Split
from whinchat.data.rows import Row
from whinchat.errors import DataError, nearest
from whinchat.recipe.label_block import label_block
from whinchat.recipe.schema import TrainConfig
from whinchat.recipe.task import Task
from whinchat.wording import counted

_SHOWN_LABELS = 10
# Labels of a source that are listed, to be pasted into a recipe; more are rather another column.
_MOST_LISTED = 200
_SHOWN_PLACES = 5


def label_splits(
    splits: Mapping[str, Sequence[Row]],
    task: Task,
    label_map: Mapping[str, str],
    source: str,
    *,
    can_relabel: bool = True,
) -> dict[str, Split]:
    """Return splits whose labels index ``task.labels``; every row is kept.

    A label is stripped of white space and looked up in ``label_map`` and then in ``task.labels``, first with its exact
    spelling in both, then without regard to case in both.

    Args:
        splits: rows of each split by name.
        task: section of the recipe.
        label_map: ``data.label_map`` of the recipe.
        source: name of the source, for messages.
        can_relabel: whether ``task.labels`` may be changed, and not those of a trained classifier, for messages.

    Raises:
        DataError: there are rows without a text or a label, or unknown labels; the message names them.
    """
    exact, folded = label_indices(task.labels, label_map)
    faults = empty_rows_fault(splits, source, lambda row: "" in exact or bool(row.label.strip()), "label")
    unknown: dict[str, list[Row]] = {}  # rows of each spelling that is no label
    labelled = {}
    used: set[int] = set()
    for name, rows in splits.items():
        indices = []
        for row in rows:
            spelling = row.label.strip()
            index = exact.get(spelling, folded.get(spelling.casefold()))
            if index is not None:
                indices.append(index)
                used.add(index)
            elif spelling:
                unknown.setdefault(spelling, []).append(row)
        if not (faults or unknown):
            labelled[name] = Split(name, tuple(row.text for row in rows), tuple(indices))
    if unknown:
        fault = _explain(unknown, task.labels, label_map, source)
        if unused := [label for index, label in enumerate(task.labels) if index not in used]:
            fault += f"; no row is labelled {' or '.join(unused)}"
        found = [label for index, label in enumerate(task.labels) if index in used] + list(unknown)
        if can_relabel and len(found) <= _MOST_LISTED:
            fault += "; or take the labels of the data as task.labels, and name them in task.instruction:\n"
            fault += label_block(found)
        faults.append(fault)
    if faults:
        raise DataError(*faults)
    return labelled


def complete_rows(rows: Sequence[Row], label_map: Mapping[str, str]) -> list[int]:
    """Return the index of each row with a text and a label; ``label_map`` can make a label of an empty cell."""
    return [
        index
        for index, row in enumerate(rows)
        if row.text.strip() and (row.label.strip() or any(not key.strip() for key in label_map))
    ]


def label_indices(labels: Sequence[str], label_map: Mapping[str, str]) -> tuple[dict[str, int], dict[str, int]]:
    """Return the index of the label that a spelling means: by the exact spelling, and by the case-folded spelling."""
    index = {label: position for position, label in enumerate(labels)}
    mapped = {key.strip(): index[label] for key, label in label_map.items()}
    return index | mapped, _without_case(index) | _without_case(mapped)


def _without_case(indices: Mapping[str, int]) -> dict[str, int]:
    """Return ``indices`` with case-folded keys, without the keys that would be ambiguous."""
    meanings: dict[str, set[int]] = {}
    for key, index in indices.items():
        meanings.setdefault(key.casefold(), set()).add(index)
    return {key: next(iter(meant)) for key, meant in meanings.items() if len(meant) == 1}


def list_spellings(unknown: Mapping[str, Sequence[Row]], names: Sequence[str], question: str) -> str:
    """List spellings that are none of ``names``, with rows, first place and the name that is spelled most like them.

    Args:
        unknown: rows of each spelling.
        names: names of the labels or options.
        question: what to ask where there are so many that the column may be the wrong one.
    """
    shown = []
    for spelling, rows in list(unknown.items())[:_SHOWN_LABELS]:
        # A stricter cutoff than elsewhere: a wrong guess ("anger" for "neutral") could end up in a label map.
        guess = nearest(spelling, names, cutoff=0.6).removeprefix("; ").removesuffix(".")
        shown.append(
            f"{spelling[:60]!r} ({counted(len(rows), 'row')}, first {rows[0].where}{'; ' + guess if guess else ''})"
        )
    if len(unknown) > _SHOWN_LABELS:
        shown.append(f"and {len(unknown) - _SHOWN_LABELS} more: {question}")
    return "; ".join(shown)


def _explain(
    unknown: Mapping[str, Sequence[Row]], labels: Sequence[str], label_map: Mapping[str, str], source: str
) -> str:
    shown = list_spellings(unknown, labels, "is data.label_column the right column")
    advice = "map each with data.label_map"
    if label_map:
        advice += f" (which has {', '.join(label_map)})"
    if all(spelling.lstrip("-").isdecimal() for spelling in unknown):
        advice = f"whinchat does not guess which number is which label: {advice}"
    example = ", ".join(f"{json.dumps(spelling, ensure_ascii=False)}: LABEL" for spelling in list(unknown)[:2])
    return (
        f"{source}: labels that are not in task.labels ({', '.join(labels)}): {shown}; "
        f"{advice}, such as --set 'data.label_map={{{example}}}'"
    )


def empty_rows_fault(
    splits: Mapping[str, Sequence[Row]], source: str, has_label: Callable[[Row], bool], noun: str
) -> list[str]:
    """Return the fault of rows without a text or without a label, which ``noun`` names; an empty list for none.

    Dropping empty texts would lose rows silently, and an answer to an empty text means nothing.
    """
    found: dict[str, list[str]] = {}
    for row in (row for rows in splits.values() for row in rows):
        labelled = has_label(row)
        if not row.text.strip():
            found.setdefault("has no text" if labelled else "is empty", []).append(row.where)
        elif not labelled:
            found.setdefault(f"has no {noun}", []).append(row.where)
    listed = "; ".join(_count_places(fault, places) for fault, places in found.items())
    advice = "complete or remove such rows, or leave them out with data.drop_empty: true"
    return [f"{source}: {listed}; {advice}"] if found else []


def _count_places(fault: str, places: Sequence[str]) -> str:
    more = f" and {len(places) - _SHOWN_PLACES} more" if len(places) > _SHOWN_PLACES else ""
    verb, _, rest = fault.partition(" ")
    plural = {"is": "are", "has": "have"}[verb]
    count = f"1 row {fault}" if len(places) == 1 else f"{len(places)} rows {plural} {rest}"
    return f"{count}: {', '.join(places[:_SHOWN_PLACES])}{more}"


def class_weights(
    train: TrainConfig, names: Sequence[str], labels: Sequence[int], shares: Sequence[Sequence[float]] = ()
) -> list[float]:
    """Return the loss weight of each of the K labels.

    ``class_weights: balanced`` gives n / (K * rows of the label), as scikit-learn's ``class_weight="balanced"`` does.
    Of rows with a share of each label, the shares are counted.

    Args:
        train: the recipe's ``train`` section.
        names: the task's K labels.
        labels: label indices of the n training rows.
        shares: the share of each label for each row, n of K; empty where labels are certain.
    """
    if isinstance(train.class_weights, dict):
        return [train.class_weights[name] for name in names]
    if train.class_weights == "none":
        return [1.0] * len(names)
    return [len(labels) / (len(names) * max(1, count)) for count in label_counts(len(names), labels, shares)]


def label_counts(size: int, labels: Sequence[int], shares: Sequence[Sequence[float]] = ()) -> list[float]:
    """Return how many rows have each of ``size`` labels; of rows with a share of each label, the sum of the shares."""
    if shares:
        return [sum(column) for column in zip(*shares, strict=True)]
    counts = Counter(labels)
    return [counts[label] for label in range(size)]
