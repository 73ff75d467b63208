"""Divide rows among splits so that the answers to all questions keep their proportions."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# An answer with this many rows for each split, train included, gets at least one row in each split.
_ROWS_FOR_EACH = 2
_TRAIN = "train"


@dataclass(frozen=True)
class RowGroup:
    """Rows with equal texts, which must stay together.

    Attributes:
        indices: the rows, as indices into train.
        labels: number of rows of each label.
        answers: number of rows of each label; with questions of each answer to each decision, as (decision, label).
    """

    indices: tuple[int, ...]
    labels: Counter[int]
    answers: Counter[tuple[int, int]]

    def __len__(self) -> int:
        return len(self.indices)


def divide_by_answers(
    groups: Sequence[RowGroup], wanted: Mapping[str, int]
) -> tuple[dict[str, list[RowGroup]], list[RowGroup]]:
    """Divide groups by iterative stratification: the rarest answer first, each group to the split that lacks it most.

    A split never gets more rows than ``wanted`` says, and gets exactly as many where all groups are single rows. An
    answer with at least two rows for each split, train included, is in every split. All sums are of integers, so that
    ties are equal on every machine.

    Args:
        groups: groups of rows in shuffled order.
        wanted: number of rows of each evaluation split by name.

    Returns:
        The groups that each evaluation split takes, and the groups that are left for train.

    Source: Sechidis, Tsoumakas and Vlahavas 2011, "On the stratification of multi-label data", algorithm 1.
    """
    total, rows_of = sum(map(len, groups)), Counter[tuple[int, int]]()
    for group in groups:
        rows_of.update(group.answers)
    room = {**wanted, _TRAIN: max(0, total - sum(wanted.values()))}
    least = _ROWS_FOR_EACH * len(room)
    # Rows of each answer that each split still lacks, times ``total``: its share, or one row if the answer has enough.
    lacking = {
        name: {answer: max(rows * size, total * (rows >= least)) for answer, rows in rows_of.items()}
        for name, size in room.items()
    }
    taken: dict[str, list[RowGroup]] = {name: [] for name in room}
    open_groups, left = dict(enumerate(groups)), Counter(rows_of)
    positions: dict[tuple[int, int], list[int]] = defaultdict(list)
    for position, group in open_groups.items():
        for answer in group.answers:
            positions[answer].append(position)

    def place(position: int, need: Mapping[str, int]) -> None:
        group = open_groups.pop(position)
        fitting = [name for name in room if room[name] >= len(group)] or [_TRAIN]
        name = max(fitting, key=lambda name: (need[name], room[name]))
        taken[name].append(group)
        room[name] -= len(group)
        left.subtract(group.answers)
        for answer, rows in group.answers.items():
            lacking[name][answer] -= rows * total

    while rarest := min(positions, key=lambda answer: (left[answer], answer), default=None):
        for position in positions.pop(rarest):
            if position in open_groups:
                place(position, {name: lacking[name][rarest] for name in room})
    for position in list(open_groups):  # rows without any answer
        place(position, room)
    rest = taken.pop(_TRAIN)
    _fill(taken, rest, room)
    return taken, rest


def _fill(taken: dict[str, list[RowGroup]], rest: list[RowGroup], room: dict[str, int]) -> None:
    """Move small groups from ``rest`` to splits with room left, into which larger groups did not fit."""
    for name, own in taken.items():
        for group in list(rest):
            if len(group) <= room[name]:
                rest.remove(group)
                own.append(group)
                room[name] -= len(group)
