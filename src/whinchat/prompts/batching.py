"""Batches of prompts of similar length, and the prefix that the prompts of a batch share.

B: rows of a batch. P: tokens of the shared prefix. T: longest rest of a prompt. N: answer tokens fed to the model.
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
        prefix: token ids that all prompts begin with, (P,); P may be 0.
        rest: token ids after the prefix, right-padded, (B, T). Every row has at least one, whose logits can be read.
        lengths: number of tokens of each rest, (B,).
        nodes: answer tokens, (B, N). An ``AnswerTree`` says which of them attend to each other.
    """

    prefix: Tensor
    rest: Tensor
    lengths: Tensor
    nodes: Tensor

    def to(self, device: torch.device) -> Batch:
        """Return the batch on ``device``."""
        return Batch(self.prefix.to(device), self.rest.to(device), self.lengths.to(device), self.nodes.to(device))


def shared_prefix(prompts: Sequence[tuple[int, ...]]) -> int:
    """Return the length of the longest prefix that all prompts share, at least one token short of the shortest prompt.

    Args:
        prompts: token ids of whole prompts. Instruction and text tokenized apart could have other token borders.
    """
    # In lexicographic order, all prompts share what the first and the last one share.
    first, last = min(prompts), max(prompts)
    limit = min(len(prompt) for prompt in prompts) - 1
    return next((index for index in range(limit) if first[index] != last[index]), limit)


def collate(
    prompts: Sequence[tuple[int, ...]], nodes: Sequence[Sequence[int]], prefix_length: int | None = None
) -> Batch:
    """Build a batch of prompts.

    Args:
        prompts: token ids of B whole prompts.
        nodes: answer tokens of each row, padded here with 0 on the right; the logits of padding are never read.
        prefix_length: number of tokens that all prompts are known to share; None to find the longest shared prefix.
    """
    if prefix_length is None:
        # A single row shares nothing, and a prefix would only add one more attention product.
        prefix_length = shared_prefix(prompts) if len(prompts) > 1 else 0
    rests = [prompt[prefix_length:] for prompt in prompts]
    return Batch(
        prefix=torch.tensor(prompts[0][:prefix_length], dtype=torch.long),
        rest=_pad(rests),
        lengths=torch.tensor([len(rest) for rest in rests]),
        nodes=_pad(nodes),
    )


def _pad(rows: Sequence[Sequence[int]]) -> Tensor:
    width = max(len(row) for row in rows)
    return torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], dtype=torch.long).view(len(rows), width)


def by_length(lengths: Sequence[int], batch_size: int, workers: int = 1) -> list[list[int]]:
    """Group row indices into batches of similar length.

    The longest rows come first: where memory is too small, the first batch shows it.

    Args:
        lengths: number of tokens of each row.
        batch_size: largest number of rows of a batch.
        workers: number of workers to share the batches. A batch is closed once it holds its equal part of all tokens,
            so that every worker has work.
    """
    enough = math.ceil(sum(lengths) / workers)
    batches: list[list[int]] = [[]]
    tokens = 0
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        if len(batches[-1]) == batch_size or (batches[-1] and tokens >= enough):
            batches.append([])
            tokens = 0
        batches[-1].append(row)
        tokens += lengths[row]
    return batches if batches[0] else []


def of_equal_length(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Group row indices into batches in which all rows have the same length; the longest rows come first.

    Args:
        lengths: number of tokens of each row.
        batch_size: largest number of rows of a batch.
    """
    groups: dict[int, list[int]] = {}
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        groups.setdefault(lengths[row], []).append(row)
    return [rows[at : at + batch_size] for rows in groups.values() for at in range(0, len(rows), batch_size)]


class LengthGroupedBatchSampler(Sampler[list[int]]):
    """Samples random training batches whose rows have similar lengths.

    The rows are shuffled, cut into windows of ``window`` batches, sorted by length within each window, and cut into
    batches, which are shuffled again. The order depends on ``seed`` and the epoch alone, so a resumed run sees the same
    batches.

    Args:
        lengths: number of tokens of each row.
        batch_size: rows of a batch over all processes.
        seed: of the order.
        window: number of batches that are sorted by length together.
        processes: number of training processes, which share each batch.
        process: index of the process that this sampler serves.
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
        self.lengths, self.batch_size, self.seed, self.window = lengths, batch_size, seed, window
        self.processes, self.process = processes, process
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch; accelerate calls this method when an epoch starts."""
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
            batches += [window[first : first + size] for first in range(0, len(window), size)]
        if len(batches) > 1 and len(batches[-1]) < self.processes:
            # Every process needs at least one row of every batch.
            batches[-2:] = [batches[-2] + batches[-1]]
        shuffle.shuffle(batches)
        # The processes take rows in turn, so that their shares of a batch have similar lengths, too.
        yield from (batch[self.process :: self.processes] for batch in batches)
