"""Every row is in exactly one batch, in an order that follows from seed and epoch."""

from __future__ import annotations

from collections import Counter

import torch
from hypothesis import given
from hypothesis import strategies as st

from whinchat.prompts.batching import LengthGroupedBatchSampler, by_length, collate, of_equal_length, shared_prefix

prompt_sets = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=7), min_size=1, max_size=8)


@given(st.lists(st.integers(1, 60), max_size=150), st.integers(1, 9), st.integers(0, 3), st.integers(1, 4))
def test_every_row_exactly_once_an_epoch(lengths: list[int], size: int, seed: int, window: int) -> None:
    sampler = LengthGroupedBatchSampler(lengths, size, seed, window)
    for epoch in (0, 1):
        sampler.set_epoch(epoch)
        batches = list(sampler)
        assert Counter(row for batch in batches for row in batch) == Counter(range(len(lengths)))
        assert len(batches) == len(sampler)
        assert all(1 <= len(batch) <= size for batch in batches)


def test_the_order_follows_from_seed_and_epoch_alone() -> None:
    lengths = [(7 * at) % 31 + 1 for at in range(200)]

    def order(seed: int, epoch: int) -> list[list[int]]:
        sampler = LengthGroupedBatchSampler(lengths, 8, seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(1, 0) == order(1, 0)
    orders = [order(1, 0), order(1, 1), order(1, 2), order(2, 0)]
    assert all(a != b for at, a in enumerate(orders) for b in orders[:at])
    # Not the same batches in another order either.
    assert {tuple(sorted(batch)) for batch in orders[0]} != {tuple(sorted(batch)) for batch in orders[1]}

    torch.manual_seed(0)
    sampler = LengthGroupedBatchSampler(lengths, 8, 1)
    torch.rand(5)
    assert list(sampler) == orders[0]
    assert list(sampler) == orders[0], "a second pass over the same epoch"


@given(st.lists(st.integers(1, 60), max_size=80), st.integers(1, 4), st.integers(1, 4))
def test_processes_share_every_batch(lengths: list[int], each: int, processes: int) -> None:
    shares = [
        list(LengthGroupedBatchSampler(lengths, each * processes, 3, processes=processes, process=at))
        for at in range(processes)
    ]
    whole = list(LengthGroupedBatchSampler(lengths, each * processes, 3))
    sampler = LengthGroupedBatchSampler(lengths, each * processes, 3, processes=processes)
    assert {len(share) for share in shares} == {len(sampler)}
    together = [[row for part in parts for row in part] for parts in zip(*shares, strict=True)]
    assert Counter(row for batch in together for row in batch) == Counter(range(len(lengths)))
    if len(lengths) >= processes:
        assert all(1 <= len(batch) <= each + 1 for share in shares for batch in share)
    if len(lengths) % (each * processes) == 0 or len(lengths) % (each * processes) >= processes:
        assert [sorted(batch) for batch in together] == [sorted(batch) for batch in whole]


def test_lengths_within_a_batch_are_alike() -> None:
    draw = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 100, (640,), generator=draw).tolist()
    spread = [
        max(lengths[row] for row in batch) - min(lengths[row] for row in batch)
        for batch in LengthGroupedBatchSampler(lengths, 16, 0)
    ]
    assert sum(spread) / len(spread) < 15  # at random it is about 88


def test_batches_do_not_come_sorted_by_length() -> None:
    lengths = list(range(1, 641))
    means = [sum(batch) / len(batch) for batch in LengthGroupedBatchSampler(lengths, 16, 0)]
    assert means != sorted(means)
    assert means != sorted(means, reverse=True)


@given(st.lists(st.integers(1, 50), max_size=60), st.integers(1, 8))
def test_by_length_is_every_row_longest_first(lengths: list[int], size: int) -> None:
    batches = by_length(lengths, size)
    flat = [row for batch in batches for row in batch]
    assert sorted(flat) == list(range(len(lengths)))
    assert [lengths[row] for row in flat] == sorted(lengths, reverse=True)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=60), st.integers(1, 8), st.integers(1, 4))
def test_by_length_shares_the_tokens_out(lengths: list[int], size: int, shares: int) -> None:
    batches = by_length(lengths, size, shares)
    flat = [row for batch in batches for row in batch]
    assert sorted(flat) == list(range(len(lengths)))
    assert [lengths[row] for row in flat] == sorted(lengths, reverse=True)
    assert all(1 <= len(batch) <= size for batch in batches)
    part = sum(lengths) / shares
    assert all(sum(lengths[row] for row in batch[:-1]) < part + 1 for batch in batches)
    # No more batches than shares and size ask for.
    assert len(batches) <= shares + len(lengths) // size


@given(prompt_sets)
def test_shared_prefix_is_the_longest_that_leaves_a_token(prompts: list[list[int]]) -> None:
    cut = shared_prefix(prompts)
    assert all(prompt[:cut] == prompts[0][:cut] for prompt in prompts)
    assert all(len(prompt) > cut for prompt in prompts)
    longer = cut + 1
    assert min(map(len, prompts)) == longer or len({tuple(prompt[:longer]) for prompt in prompts}) > 1


@given(prompt_sets)
def test_collate_loses_no_token(prompts: list[list[int]]) -> None:
    nodes = [list(range(at % 3)) for at in range(len(prompts))]
    batch = collate(prompts, nodes)
    for row, prompt in enumerate(prompts):
        rest = batch.rest[row, : batch.lengths[row]].tolist()
        assert [*batch.prefix.tolist(), *rest] == prompt
        assert batch.rest[row, batch.lengths[row] :].tolist() == [0] * (batch.rest.shape[1] - len(rest))
        assert batch.nodes[row, : len(nodes[row])].tolist() == nodes[row]
    assert batch.nodes.shape == (len(prompts), max(map(len, nodes)))


def test_collate_without_nodes_or_prefix() -> None:
    batch = collate([[1, 2, 3], [4]], [(), ()])
    assert batch.prefix.tolist() == []
    assert batch.nodes.shape == (2, 0)
    assert batch.rest.tolist() == [[1, 2, 3], [4, 0, 0]]


def test_a_row_alone_has_no_prefix() -> None:
    batch = collate([[1, 2, 3]], [(4,)])
    assert batch.prefix.tolist() == []
    assert batch.rest.tolist() == [[1, 2, 3]]


def test_batches_of_equal_length() -> None:
    lengths = [3, 5, 3, 3, 5, 1]
    batches = of_equal_length(lengths, 2)
    assert batches == [[1, 4], [0, 2], [3], [5]]
    assert of_equal_length([], 2) == []
