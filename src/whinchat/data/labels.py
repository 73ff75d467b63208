"""Turn labels as the source spells them into indices into ``task.labels``."""

import json
from collections.abc import Mapping, Sequence

from whinchat.data.dataset import Split
from whinchat.data.rows import Row
from whinchat.errors import DataError, nearest
from whinchat.recipe.task import Task

_SHOWN_LABELS = 10


def label_splits(
    splits: Mapping[str, Sequence[Row]], task: Task, label_map: Mapping[str, str], source: str
) -> dict[str, Split]:
    """Return splits whose labels index ``task.labels``; every row is kept.

    A label is stripped of white space and looked up in ``label_map`` and then in ``task.labels``, first with its exact
    spelling in both, then without regard to case in both.

    Args:
        splits: rows of each split by name.
        task: section of the recipe.
        label_map: ``data.label_map`` of the recipe.
        source: name of the source, for messages.

    Raises:
        DataError: there are unknown labels, all of which the message names, or empty texts.
    """
    exact, folded = _label_indices(task.labels, label_map)
    unknown: dict[str, list[Row]] = {}  # rows of each spelling that is no label
    labelled = {}
    for name, rows in splits.items():
        indices = []
        for row in rows:
            spelling = row.label.strip()
            index = exact.get(spelling, folded.get(spelling.casefold()))
            if index is None:
                unknown.setdefault(spelling, []).append(row)
            else:
                indices.append(index)
        if not unknown:
            labelled[name] = Split(name, tuple(row.text for row in rows), tuple(indices))
    if unknown:
        raise DataError(_explain(unknown, task.labels, label_map, source))
    _refuse_empty(splits, source)
    return labelled


def _label_indices(labels: Sequence[str], label_map: Mapping[str, str]) -> tuple[dict[str, int], dict[str, int]]:
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


def _explain(
    unknown: Mapping[str, Sequence[Row]], labels: Sequence[str], label_map: Mapping[str, str], source: str
) -> str:
    shown = []
    for spelling, rows in list(unknown.items())[:_SHOWN_LABELS]:
        # A stricter cutoff than elsewhere: a wrong guess ("anger" for "neutral") could end up in a label map.
        guess = nearest(spelling, labels, cutoff=0.6).removeprefix("; ").removesuffix(".")
        count = "1 row" if len(rows) == 1 else f"{len(rows)} rows"
        shown.append(f"{spelling[:60]!r} ({count}, first {rows[0].where}{'; ' + guess if guess else ''})")
    if len(unknown) > _SHOWN_LABELS:
        shown.append(f"and {len(unknown) - _SHOWN_LABELS} more: is data.label_column the right column")
    advice = "map each with data.label_map"
    if label_map:
        advice += f" (which has {', '.join(label_map)})"
    if all(spelling.lstrip("-").isdecimal() for spelling in unknown):
        advice = f"whinchat does not guess which number is which label: {advice}"
    example = ", ".join(f"{json.dumps(spelling, ensure_ascii=False)}: LABEL" for spelling in list(unknown)[:2])
    return (
        f"{source}: labels that are not in task.labels ({', '.join(labels)}): {'; '.join(shown)}; "
        f"{advice}, such as --set 'data.label_map={{{example}}}'"
    )


def _refuse_empty(splits: Mapping[str, Sequence[Row]], source: str) -> None:
    # Dropping empty texts would lose rows silently, and an answer to an empty text means nothing.
    empty = [row.where for rows in splits.values() for row in rows if not row.text.strip()]
    if empty:
        more = f" and {len(empty) - 5} more" if len(empty) > 5 else ""
        count = "1 text is" if len(empty) == 1 else f"{len(empty)} texts are"
        raise DataError(f"{source}: {count} empty: {', '.join(empty[:5])}{more}; remove these rows")
