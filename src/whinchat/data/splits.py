"""Carve missing splits from train, shorten existing splits, and divide train into folds for a review."""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction

from whinchat.data.checks import normalize_text
from whinchat.data.cleaning import clean
from whinchat.data.dataset import Answer, Split, certain_answer
from whinchat.data.stratification import RowGroup, divide_by_answers
from whinchat.errors import DataError
from whinchat.recipe.data_config import DataConfig
from whinchat.recipe.task import Cleaning, Task

_WORD = re.compile(r"\w+")
# Smallest number of rows in a fold; fewer say next to nothing about a label.
SMALLEST_FOLD = 10
# Share of the training rows that each split gets that a recipe leaves to "auto". Runs store "auto", so another value
# would split the data of finished runs anew.
_AUTO_SHARE = 0.1


def carve_splits(
    train: Split, wanted: dict[str, int], seed: int, source: str, steps: Sequence[Cleaning] = ()
) -> tuple[Split, dict[str, Split]]:
    """Take evaluation splits out of train.

    Rows are shuffled by the SHA-256 of seed and text, so the splits are the same on every machine and for every order
    of the source. Texts that, once cleaned, differ only in case, white space or punctuation stay together. Where all
    texts are different, each split has exactly the rows asked for, and the label proportions of train to within one row
    a label; with questions, the proportions of the answers to all decisions as nearly as possible, see
    ``divide_by_answers``. Where equal texts form groups, a split takes the groups that fit the proportions first and
    then any that fit its size. A split may then be short by fewer rows than the smallest group that is left has. Where
    a label would have no row left in train, one group of each label stays in train, and the splits may be short by as
    many rows; with questions, a group of each answer to each decision.

    Args:
        train: rows to split.
        wanted: number of rows of each evaluation split by name, in the order in which the splits are taken.
        seed: seed of the shuffle.
        source: name of the source, for messages.
        steps: ``task.clean`` of the recipe.

    Returns:
        What is left of train, and the evaluation splits.

    Raises:
        DataError: there are too few rows, or the smallest group of equal texts is larger than a split.
    """
    total = sum(wanted.values())
    if total >= len(train):
        asked = " and ".join(f"data.{name}_rows={rows}" for name, rows in wanted.items())
        raise DataError(
            f"{source}: {asked} take {total} of the {len(train)} rows of train, which leaves none to train on; "
            "lower them or add rows"
        )
    groups = _group_equal_texts(train, _digests(train, f"{seed}"), steps)
    label_rows = Counter(train.labels)

    def divide(free: Sequence[RowGroup]) -> tuple[dict[str, list[RowGroup]], list[RowGroup]]:
        return divide_by_answers(free, wanted) if train.answers else _divide_by_labels(free, label_rows, wanted)

    taken, rest = divide(groups)
    if _all_answers(rest) != _all_answers(groups):
        last_group = {answer: position for position, group in enumerate(groups) for answer in group.answers}
        kept = set(last_group.values())
        free = [group for position, group in enumerate(groups) if position not in kept]
        taken, rest = divide(free)
        rest += [groups[position] for position in sorted(kept)]
    carved = {}
    for name, rows in wanted.items():
        if not taken[name]:
            if len(groups) == len(train):
                raise DataError(
                    f"{source}: data.{name}_rows={rows} cannot be met, since one row of each label stays in train and "
                    f"no other row is left; add rows, or set data.{name}_rows to null"
                )
            raise DataError(
                f"{source}: data.{name}_rows={rows} cannot be met, since equal texts must stay together, and no set of "
                "equal texts that train can spare is as small; raise it, or add rows"
            )
        part = train.take(_shuffle_rows(train, taken[name], f"{seed} {name}"))
        carved[name] = replace(part, name=name, weights=())
    return train.take(_shuffle_rows(train, rest, f"{seed} train")), carved


def _divide_by_labels(
    groups: Sequence[RowGroup], label_rows: Counter[int], wanted: dict[str, int]
) -> tuple[dict[str, list[RowGroup]], list[RowGroup]]:
    """Return the groups that each split takes by quotas of the labels, and the groups that are left."""
    free, taken = list(groups), {}
    for name, rows in wanted.items():
        rows_left = sum(map(len, free))
        taken[name], free = _take_groups(free, _quotas(label_rows, free, min(rows, rows_left)))
    return taken, free


def rows_to_carve(data: DataConfig, present: Collection[str], total: int) -> dict[str, int]:
    """Return how many rows to take out of train for each split that a source lacks, in the order of taking.

    Args:
        data: section of the recipe.
        present: names of the evaluation splits that the source has.
        total: number of rows in train.
    """
    wanted: dict[str, int | float | str | None] = {"validation": data.validation_rows, "test": data.test_rows}
    if wanted["test"] == "auto" and "validation" in present:
        wanted["test"] = None  # the source names the rows to measure on
    shares = {name: _AUTO_SHARE if rows == "auto" else rows for name, rows in wanted.items() if name not in present}
    return {name: _count_rows(rows, total) for name, rows in shares.items() if isinstance(rows, int | float)}


def _count_rows(rows: float, total: int) -> int:
    """Return a number of rows as it is, and a share of ``total`` rows as a number of at least one."""
    return int(rows) if rows >= 1 else max(1, round(rows * total))


def limit_rows(split: Split, limit: float | str | None, source: str) -> Split:
    """Return the first ``limit`` rows of ``split``, or this share of them; None and "auto" return all.

    Raises:
        DataError: the split has fewer rows.
    """
    rows = _count_rows(limit, len(split)) if isinstance(limit, int | float) else None
    if rows is not None and rows > len(split):
        raise DataError(
            f"{source}: data.{split.name}_rows={rows}, but {split.name} has {len(split)} rows"
            f"{' after splitting and dropping' if split.name == 'train' else ''}; lower it, or use null for all"
        )
    return split.head(rows)


def make_folds(train: Split, task: Task, count: int, seed: int, source: str) -> tuple[tuple[int, ...], ...]:
    """Divide the rows of train into folds.

    Each fold has the label proportions of train as nearly as possible; with questions, those of the answers to all
    decisions. Texts that, once cleaned, differ only in case, white space or punctuation are in one fold, so that no
    model is asked about a text it was trained on. The same seed gives the same folds on every machine.

    Args:
        train: rows, at least one of each label.
        task: section of the recipe.
        count: number of folds, at least two.
        seed: seed of the shuffle.
        source: name of the source, for messages.

    Returns:
        The rows of each fold, as indices into train in ascending order; every row is in exactly one fold.

    Raises:
        DataError: a fold would have fewer than ``SMALLEST_FOLD`` rows, or a label has too few different texts.
    """
    if len(train) < count * SMALLEST_FOLD:
        raise DataError(
            f"{source}: {len(train)} training rows give {count} folds of fewer than {SMALLEST_FOLD} rows; use fewer "
            "folds or more rows"
        )
    groups = _group_equal_texts(train, _digests(train, f"{seed} folds"), task.clean)
    rows_of = Counter(answer for row in range(len(train)) for answer in _row_answers(train, row))
    fold_answers: list[Counter[tuple[int, int]]] = [Counter() for _ in range(count)]
    fold_rows: list[list[int]] = [[] for _ in range(count)]
    # Large groups come first, so that single texts can even out the differences they leave.
    for group in sorted(groups, key=len, reverse=True):
        emptiest = min(
            range(count), key=lambda fold: (_fullness(fold_answers[fold], group, rows_of), len(fold_rows[fold]), fold)
        )
        fold_answers[emptiest].update(group.answers)
        fold_rows[emptiest] += group.indices
    distinct_texts = Counter(answer for group in groups for answer in group.answers)
    for answer in sorted(rows_of):
        # Where one fold has all rows of a label, the other folds have nothing to learn the label from.
        if distinct_texts[answer] < count or sum(answer in counts for counts in fold_answers) < 2:
            raise DataError(
                f"{source}: {_answer_name(task, *answer)} has {distinct_texts[answer]} different texts in train, too "
                f"few for {count} folds of different texts each; use fewer folds, or add rows of that label"
            )
    return tuple(tuple(sorted(rows)) for rows in fold_rows)


def _answer_name(task: Task, decision: int, label: int) -> str:
    """Return the label of a task with labels, or the title and the label of a decision."""
    if not task.questions:
        return task.labels[label]
    asked = task.decisions[decision]
    return f"{asked.title} ({asked.labels[label]})"


def source_indices(part: Split, whole: Split) -> list[int]:
    """Return the index in ``whole`` of each row of ``part``, which was taken from ``whole`` in any order.

    Rows that are equal in text and label, or in all answers, are matched in the order of ``whole``.
    """
    indices: dict[tuple[str, int, tuple[Answer, ...]], list[int]] = defaultdict(list)
    for index, row in reversed(list(enumerate(_rows_of(whole)))):
        indices[row].append(index)
    return [indices[row].pop() for row in _rows_of(part)]


def _rows_of(split: Split) -> Iterator[tuple[str, int, tuple[Answer, ...]]]:
    return zip(split.texts, split.labels, split.answers or ((),) * len(split), strict=True)


def _text_key(text: str) -> str:
    """Return the words of a text without case, white space and punctuation; texts with equal keys stay together."""
    normalized = normalize_text(text)
    return " ".join(_WORD.findall(normalized)) or normalized


def _digests(train: Split, seed: str) -> list[bytes]:
    """Return a hash of each row that orders rows in a shuffle; copies of a text have different hashes."""
    copies: Counter[str] = Counter()
    digests = []
    for text in train.texts:
        digests.append(hashlib.sha256(f"{seed}\0{copies[text]}\0{text}".encode()).digest())
        copies[text] += 1
    return digests


def _group_equal_texts(train: Split, digests: Sequence[bytes], steps: Sequence[Cleaning]) -> list[RowGroup]:
    """Return the groups of rows whose cleaned texts have equal ``_text_key``, in shuffled order."""
    members: dict[str, list[int]] = defaultdict(list)
    for index, text in enumerate(train.texts):
        members[_text_key(clean(text, steps))].append(index)
    shuffled = sorted(members.values(), key=lambda indices: min(digests[index] for index in indices))
    return [
        RowGroup(
            tuple(indices),
            Counter(train.labels[index] for index in indices),
            Counter(answer for index in indices for answer in _row_answers(train, index)),
        )
        for indices in shuffled
    ]


def _all_answers(groups: Iterable[RowGroup]) -> set[tuple[int, int]]:
    """Return every answer that a row of ``groups`` has."""
    return {answer for group in groups for answer in group.answers}


def _row_answers(train: Split, row: int) -> list[tuple[int, int]]:
    """Return the label of a row, or its answer to each decision that it answers, as (decision, label)."""
    answers: tuple[Answer, ...] = train.answers[row] if train.answers else (train.labels[row],)
    labels = ((decision, certain_answer(answer)) for decision, answer in enumerate(answers))
    return [(decision, label) for decision, label in labels if label is not None]


def _shuffle_rows(train: Split, groups: Iterable[RowGroup], seed: str) -> list[int]:
    """Return the rows of ``groups`` in a new shuffle.

    In the order in which groups were taken, the last rows would hold only the labels whose quotas were filled last, and
    the first N rows of a split would not be like the whole split.
    """
    digests = _digests(train, seed)
    return sorted((index for group in groups for index in group.indices), key=digests.__getitem__)


def _quotas(label_rows: Counter[int], free: Sequence[RowGroup], rows: int) -> Counter[int]:
    """Divide ``rows`` among the labels by the largest remainder method, up to what the ``free`` groups hold."""
    left: Counter[int] = Counter()
    for group in free:
        left.update(group.labels)
    total = sum(label_rows.values())
    quotas = Counter({label: min(rows * count // total, left[label]) for label, count in label_rows.items()})
    by_remainder = sorted(label_rows, key=lambda label: (-(rows * label_rows[label] % total), label))
    while (missing := rows - sum(quotas.values())) > 0:
        open_labels = [label for label in by_remainder if quotas[label] < left[label]]
        quotas.update(open_labels[:missing])
    return quotas


def _take_groups(free: Sequence[RowGroup], quotas: Counter[int]) -> tuple[list[RowGroup], list[RowGroup]]:
    """Take groups of at most as many rows as ``quotas`` has; return the taken groups and the rest, both in order.

    Groups that fit the label quotas are taken first, then any that fit the rows still missing.
    """
    room = Counter(quotas)
    taken: set[int] = set()
    for position, group in enumerate(free):
        if all(room[label] >= count for label, count in group.labels.items()):
            room.subtract(group.labels)
            taken.add(position)
    missing = room.total()
    for position, group in enumerate(free):
        if position not in taken and len(group) <= missing:
            taken.add(position)
            missing -= len(group)
    rest = [group for position, group in enumerate(free) if position not in taken]
    return [free[position] for position in sorted(taken)], rest


def _fullness(fold_answers: Counter[tuple[int, int]], group: RowGroup, rows_of: Counter[tuple[int, int]]) -> Fraction:
    """Return how full a fold is of the answers in ``group``; as a fraction, so that ties are equal on every machine."""
    parts = (Fraction(fold_answers[answer] * count, rows_of[answer]) for answer, count in group.answers.items())
    return sum(parts, Fraction(0))
