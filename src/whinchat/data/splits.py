"""Splits that the source lacks are carved from train; those it has are shortened; folds part train for a review.

K: labels.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from whinchat.data.checks import normalize_text
from whinchat.data.dataset import Split
from whinchat.errors import DataError

_WORD = re.compile(r"\w+")
# Rows of a fold: fewer say next to nothing about a label.
SMALLEST_FOLD = 10


@dataclass(frozen=True)
class _Group:
    """Rows that must stay together, by index into train, and their labels."""

    indices: tuple[int, ...]
    labels: Counter[int]

    def __len__(self) -> int:
        return len(self.indices)


def carve_splits(train: Split, wanted: dict[str, int], seed: int, source: str) -> tuple[Split, dict[str, Split]]:
    """Take evaluation splits out of train, in the order of ``wanted`` (name -> rows).

    The order of every result is a shuffle by SHA-256 of seed and text: the same on every machine, and the same for
    rows that the source lists in another order. Each split has the label proportions of train to within one row for
    each label. Texts that differ in case, white space or punctuation only stay on one side. The count is exact
    unless such groups make that impossible, and is then the largest possible below it; where only large groups are
    left, the exact count goes before the proportions.

    Raises:
        DataError: fewer rows than are wanted, or none left to train on.
    """
    total = sum(wanted.values())
    if total >= len(train):
        asked = " and ".join(f"data.{name}_rows={rows}" for name, rows in wanted.items())
        raise DataError(
            f"{source}: {asked} take {total} of the {len(train)} rows of train, which leaves none to train on; "
            "lower them or add rows"
        )
    free = _groups(train, _digests(train, f"{seed}"))
    shares = Counter(train.labels)
    carved = {}
    for name, rows in wanted.items():
        taken = _pick(free, _quotas(shares, free, rows), rows)
        free = [group for position, group in enumerate(free) if position not in taken]
        indices = _shuffled(train, taken.values(), f"{seed} {name}")
        if not indices:
            raise DataError(
                f"{source}: data.{name}_rows={rows} cannot be met, since equal texts must stay together and the "
                "smallest set of equal texts is larger; raise it"
            )
        part = train.take(indices)
        carved[name] = Split(name, part.texts, part.labels)
    return train.take(_shuffled(train, free, f"{seed} train")), carved


def limit_rows(split: Split, rows: int | None, source: str) -> Split:
    """The first ``rows`` rows, or all of them for None.

    Raises:
        DataError: there are fewer.
    """
    if rows is not None and rows > len(split):
        raise DataError(
            f"{source}: data.{split.name}_rows={rows}, but {split.name} has {len(split)} rows"
            f"{' after splitting and dropping' if split.name == 'train' else ''}; lower it, or use null for all"
        )
    return split.head(rows)


def _kin(text: str) -> str:
    """A looser key than ``normalised``: "Yay. Go!" and "yay, go" are one text to a model that has seen the other."""
    plain = normalize_text(text)
    return " ".join(_WORD.findall(plain)) or plain


def _shuffled(train: Split, groups: Iterable[_Group], seed: str) -> list[int]:
    """Rows of ``groups`` in an order of their own.

    The order in which groups were picked would not do: where one label's quota is full before another's, the labels
    come in stretches, and the first N rows of a split would not be like the split.
    """
    digests = _digests(train, seed)
    return sorted((index for group in groups for index in group.indices), key=digests.__getitem__)


def _digests(train: Split, seed: str) -> list[bytes]:
    seen: Counter[str] = Counter()
    digests = []
    for text in train.texts:
        # Repeated texts get different places in the shuffle.
        digests.append(hashlib.sha256(f"{seed}\0{seen[text]}\0{text}".encode()).digest())
        seen[text] += 1
    return digests


def _groups(train: Split, digests: Sequence[bytes]) -> list[_Group]:
    """Groups of kindred texts, in shuffled order."""
    members: dict[str, list[int]] = defaultdict(list)
    for index, text in enumerate(train.texts):
        members[_kin(text)].append(index)
    ordered = sorted(members.values(), key=lambda indices: min(digests[i] for i in indices))
    return [_Group(tuple(indices), Counter(train.labels[i] for i in indices)) for indices in ordered]


def _quotas(shares: Counter[int], free: Sequence[_Group], rows: int) -> Counter[int]:
    """Rows of each label by largest remainder, none above what is left; they add up to ``rows``."""
    left: Counter[int] = Counter()
    for group in free:
        left.update(group.labels)
    total = sum(shares.values())
    quotas = Counter({label: min(rows * share // total, left[label]) for label, share in shares.items()})
    by_remainder = sorted(shares, key=lambda label: (-(rows * shares[label] % total), label))
    while (short := rows - sum(quotas.values())) > 0:
        open_labels = [label for label in by_remainder if quotas[label] < left[label]]
        quotas.update(open_labels[:short])
    return quotas


def _pick(free: Sequence[_Group], quotas: Counter[int], rows: int) -> dict[int, _Group]:
    """Groups for one split, by position in ``free``."""
    room = Counter(quotas)
    taken: dict[int, _Group] = {}
    for position, group in enumerate(free):
        if all(room[label] >= count for label, count in group.labels.items()):
            room.subtract(group.labels)
            taken[position] = group
    short = rows - sum(len(group) for group in taken.values())
    # No group that is left fits the proportions; let the count go first.
    for position, group in enumerate(free):
        if position not in taken and len(group) <= short:
            taken[position] = group
            short -= len(group)
    return taken if short == 0 else _closest(free, rows)


def _closest(free: Sequence[_Group], rows: int) -> dict[int, _Group]:
    """Groups whose sizes add up to ``rows``, or to the largest possible sum below it (subset sum)."""
    # Bit s of reachable[p] says whether the first p groups hold a subset of s rows.
    reachable = [1]
    window = (1 << (rows + 1)) - 1
    for group in free:
        reachable.append((reachable[-1] | reachable[-1] << len(group)) & window)
    rest = reachable[-1].bit_length() - 1
    taken = {}
    for position in range(len(free) - 1, -1, -1):
        if not reachable[position] >> rest & 1:
            taken[position] = free[position]
            rest -= len(free[position])
    return taken


def make_folds(
    train: Split, labels: tuple[str, ...], count: int, seed: int, source: str
) -> tuple[tuple[int, ...], ...]:
    """Rows of ``train`` in ``count`` folds, by index, in the order of train; every row is in exactly one.

    Each fold has the label proportions of train as nearly as it can, and texts that differ in case, white space or
    punctuation only are in one fold: no copy of a text is trained on while the text is judged. The same seed gives
    the same folds on every machine.

    Args:
        train: rows that hold every label.
        labels: names of the labels.
        count: folds, two or more.
        seed: of the shuffle.
        source: what an error names.

    Raises:
        DataError: the folds would be tiny, or the rows of a label cannot be spread over them.
    """
    if len(train) < count * SMALLEST_FOLD:
        raise DataError(
            f"{source}: {len(train)} training rows give {count} folds of fewer than {SMALLEST_FOLD} rows; use fewer "
            "folds or more rows"
        )
    groups = _groups(train, _digests(train, f"{seed} folds"))
    shares = Counter(train.labels)
    held: list[Counter[int]] = [Counter() for _ in range(count)]
    rows: list[list[int]] = [[] for _ in range(count)]
    # Large groups first: single texts then even out what those leave.
    for group in sorted(groups, key=len, reverse=True):
        fold = min(range(count), key=lambda at: (_crowding(held[at], group, shares), len(rows[at]), at))
        held[fold].update(group.labels)
        rows[fold] += group.indices
    different = Counter(label for group in groups for label in group.labels)
    for label in sorted(shares):
        # Where one fold has all rows of a label, nothing is left to learn that label from.
        if different[label] < count or sum(label in one for one in held) < 2:
            raise DataError(
                f"{source}: {labels[label]} has {different[label]} different texts in train, too few for {count} folds "
                "of different texts each; use fewer folds, or add rows of that label"
            )
    return tuple(tuple(sorted(one)) for one in rows)


def source_indices(part: Split, whole: Split) -> list[int]:
    """For each row of ``part`` its index in ``whole``, the split it was taken from in whatever order.

    Rows that are equal in text and label are told apart by their order alone, which makes no difference.
    """
    places: dict[tuple[str, int], list[int]] = defaultdict(list)
    for index in reversed(range(len(whole))):
        places[whole.texts[index], whole.labels[index]].append(index)
    return [places[row].pop() for row in zip(part.texts, part.labels, strict=True)]


def _crowding(held: Counter[int], group: _Group, shares: Counter[int]) -> Fraction:
    """How full a fold is of the labels in ``group``; exact, so that ties are ties on every machine."""
    return sum((Fraction(held[label] * rows, shares[label]) for label, rows in group.labels.items()), Fraction(0))
