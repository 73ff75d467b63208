"""From labels as the source spells them to indices into ``task.labels``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from whinchat.data.dataset import Split
from whinchat.data.rows import Row
from whinchat.errors import DataError, nearest
from whinchat.recipe.schema import Task

_SHOWN = 10


@dataclass
class _Stranger:
    first: str
    rows: int = field(default=0)


def label_splits(
    splits: Mapping[str, Sequence[Row]], task: Task, label_map: Mapping[str, str], source: str
) -> dict[str, Split]:
    """Splits whose labels index ``task.labels``; no row is left out.

    A label is stripped of white space and looked up in ``label_map``, then in ``task.labels``: in both as it is
    spelled, then in both without regard to case.

    Raises:
        DataError: labels that fit neither, all of them named; or texts that are empty.
    """
    lookup = _Lookup(task.labels, label_map)
    strangers: dict[str, _Stranger] = {}
    labelled = {}
    for name, rows in splits.items():
        indices = []
        for row in rows:
            index = lookup.find(row.label)
            if index is None:
                strangers.setdefault(row.label.strip(), _Stranger(row.where)).rows += 1
            else:
                indices.append(index)
        if not strangers:
            labelled[name] = Split(name, tuple(row.text for row in rows), tuple(indices))
    if strangers:
        raise DataError(_explain(strangers, task.labels, label_map, source))
    _refuse_empty(splits, source)
    return labelled


class _Lookup:
    """Spelling in the source -> index into the task's labels."""

    def __init__(self, labels: Sequence[str], label_map: Mapping[str, str]) -> None:
        index = {label: position for position, label in enumerate(labels)}
        mapped = {key.strip(): index[label] for key, label in label_map.items()}
        self._exact = (mapped, index)
        self._folded = (_without_case(mapped), _without_case(index))

    def find(self, spelling: str) -> int | None:
        bare = spelling.strip()
        for tables, key in ((self._exact, bare), (self._folded, bare.casefold())):
            for table in tables:
                if key in table:
                    return table[key]
        return None


def _without_case(table: Mapping[str, int]) -> dict[str, int]:
    """The same table by case-folded key, less the keys that would then be ambiguous."""
    meanings: dict[str, set[int]] = {}
    for key, index in table.items():
        meanings.setdefault(key.casefold(), set()).add(index)
    return {key: next(iter(indices)) for key, indices in meanings.items() if len(indices) == 1}


def _explain(
    strangers: Mapping[str, _Stranger], labels: Sequence[str], label_map: Mapping[str, str], source: str
) -> str:
    shown = []
    for spelling, stranger in list(strangers.items())[:_SHOWN]:
        # Stricter than elsewhere: a wrong guess ("anger" for "neutral") would end up in a label map.
        guess = nearest(spelling, labels, cutoff=0.6).removeprefix("; ").removesuffix(".")
        rows = "1 row" if stranger.rows == 1 else f"{stranger.rows} rows"
        shown.append(f"{spelling[:60]!r} ({rows}, first {stranger.first}{'; ' + guess if guess else ''})")
    if len(strangers) > _SHOWN:
        shown.append(f"and {len(strangers) - _SHOWN} more: is data.label_column the right column")
    advice = "map each with data.label_map"
    if label_map:
        advice += f" (which has {', '.join(label_map)})"
    if all(spelling.lstrip("-").isdecimal() for spelling in strangers):
        advice = f"whinchat does not guess which number is which label: {advice}"
    example = ", ".join(f"{json.dumps(spelling, ensure_ascii=False)}: LABEL" for spelling in list(strangers)[:2])
    return (
        f"{source}: labels that are not in task.labels ({', '.join(labels)}): {'; '.join(shown)}; "
        f"{advice}, such as --set 'data.label_map={{{example}}}'"
    )


def _refuse_empty(splits: Mapping[str, Sequence[Row]], source: str) -> None:
    # Dropping them would lose rows silently, and an answer to an empty text means nothing.
    empty = [row.where for rows in splits.values() for row in rows if not row.text.strip()]
    if empty:
        more = f" and {len(empty) - 5} more" if len(empty) > 5 else ""
        count = "1 text is" if len(empty) == 1 else f"{len(empty)} texts are"
        raise DataError(f"{source}: {count} empty: {', '.join(empty[:5])}{more}; remove these rows")
