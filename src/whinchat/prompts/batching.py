"""Batches by length, and the prefix that the prompts of a batch share.

B: rows of the batch. P: tokens of the shared prefix. T: longest rest of a prompt. N: answer tokens fed to the model.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Sampler


@dataclass(frozen=True)
class Batch:
    """B prompts as one shared prefix and padded rests, with N answer tokens after each.

    Attributes:
        prefix: (P,), the longest common token prefix; P may be 0.
        rest: (B, T), right-padded; at least one token a row, so that every row has a place to read from.
        lengths: (B,), tokens of each rest.
        nodes: (B, N), answer tokens; what each attends to is said by the ``Continuation`` that goes with them.
    """

    prefix: Tensor
    rest: Tensor
    lengths: Tensor
    nodes: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same batch on ``device``."""
        return Batch(self.prefix.to(device), self.rest.to(device), self.lengths.to(device), self.nodes.to(device))


def shared_prefix(prompts: Sequence[tuple[int, ...]]) -> int:
    """Length of the longest common prefix of whole prompts, at least one token short of the shortest prompt.

    Found on the token ids of whole prompts: tokenizing instruction and text apart could move token borders.
    """
    # In lexicographic order whatever the first and the last share, all between them share too.
    first, last = min(prompts), max(prompts)
    limit = min(len(prompt) for prompt in prompts) - 1
    return next((at for at in range(limit) if first[at] != last[at]), limit)


def collate(prompts: Sequence[tuple[int, ...]], nodes: Sequence[Sequence[int]], cut: int | None = None) -> Batch:
    """One batch.

    Args:
        prompts: token ids of B whole prompts.
        nodes: the answer tokens of each row, padded here with 0, which nothing reads.
        cut: tokens of the prefix, where it is known that all share so many; None for the longest.
    """
    if cut is None:
        # A row alone shares nothing: a prefix of its own would only be one more attention.
        cut = shared_prefix(prompts) if len(prompts) > 1 else 0
    rests = [prompt[cut:] for prompt in prompts]
    return Batch(
        prefix=torch.tensor(prompts[0][:cut], dtype=torch.long),
        rest=_pad(rests),
        lengths=torch.tensor([len(rest) for rest in rests]),
        nodes=_pad(nodes),
    )


def _pad(rows: Sequence[Sequence[int]]) -> Tensor:
    width = max(len(row) for row in rows)
    return torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], dtype=torch.long).view(len(rows), width)


def by_length(lengths: Sequence[int], batch_size: int, shares: int = 1) -> list[list[int]]:
    """Row indices in batches of similar length, longest first, so that memory runs out at once or not at all.

    No batch goes far beyond one of ``shares`` equal parts of all tokens, so that so many workers have equal work.
    """
    enough = math.ceil(sum(lengths) / shares)
    batches: list[list[int]] = [[]]
    tokens = 0
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        if len(batches[-1]) == batch_size or (batches[-1] and tokens >= enough):
            batches.append([])
            tokens = 0
        batches[-1].append(row)
        tokens += lengths[row]
    return batches if batches[0] else []


class LengthGroupedBatchSampler(Sampler[list[int]]):
    """Training batches: random, yet of similar length within a batch.

    Rows are shuffled, cut into windows of ``window`` batches, sorted by length within a window, cut into batches, and
    the batches shuffled. The order follows from ``seed`` and the epoch alone, so a resumed run sees the same batches.

    Args:
        lengths: of the rows, in tokens.
        batch_size: rows of a batch, over all processes.
        seed: of the order.
        window: batches sorted by length together.
        processes, process: how many take part in each batch, and which of them gets its rows from here.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        batch_size: int,
        seed: int,
        window: int = 20,
        *,
        processes: int = 1,
        process: int = 0,
    ) -> None:
        self.lengths = lengths
        self.batch_size = batch_size
        self.seed = seed
        self.window = window
        self.processes = processes
        self.process = process
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by accelerate at the start of every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        full, rest = divmod(len(self.lengths), self.batch_size)
        return full + (rest >= self.processes or (rest > 0 and not full))

    def __iter__(self) -> Iterator[list[int]]:
        shuffle = random.Random(f"{self.seed}-{self.epoch}")
        order = list(range(len(self.lengths)))
        shuffle.shuffle(order)
        size, span = self.batch_size, self.batch_size * self.window
        batches: list[list[int]] = []
        for start in range(0, len(order), span):
            window = sorted(order[start : start + span], key=self.lengths.__getitem__)
            batches += [window[at : at + size] for at in range(0, len(window), size)]
        if len(batches) > 1 and len(batches[-1]) < self.processes:
            # Every process needs a row of every batch.
            batches[-2:] = [batches[-2] + batches[-1]]
        shuffle.shuffle(batches)
        # One row to each in turn: what all of them get is of similar length, too.
        yield from (batch[self.process :: self.processes] for batch in batches)
