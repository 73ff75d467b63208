"""The plain way to the logits: the model's own forward pass, for every causal language model of transformers.

B: rows of a batch. P: tokens of the shared prefix. T: longest rest of a prompt. N: answer nodes. C: chains, the ways
through the answer tree. D: longest chain. R: sequences given to the model, B * C. S: their length, padding included.
L: columns of logits that are read.

Every sequence is ``[rest of prompt | answer chain | padding]`` behind the shared prefix. A causal model cannot see the
padding at the end, and a token's column is its position, so the model needs neither mask nor positions from outside.
This is right for windows, biases by distance and recurrent states alike. Answers that branch take one sequence each.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  # the name that PyTorch code uses
from torch import Tensor, nn
from transformers import DynamicCache

from whinchat.errors import ModelError
from whinchat.models.capabilities import continues_from_cache
from whinchat.models.device import DevicePlan
from whinchat.prompts.answer_tree import AnswerTree
from whinchat.prompts.batching import Batch


def plain_logits(model: nn.Module, plan: DevicePlan, batch: Batch, tree: AnswerTree | None) -> Tensor:
    """Compute the logits after the nodes that ``tree`` reads, by the model's own forward pass.

    The prefix is computed once where the model continues from a cache of keys and values, and with each sequence
    elsewhere.

    Args:
        model: a causal language model, with or without a PEFT adapter.
        plan: device, data types and attention of the model.
        batch: prompts with answer tokens, on the model's device.
        tree: how the answer tokens attend to each other, and where logits are read; None for a chain, where each
            follows the one before, and all are read.

    Returns:
        Logits in the data type of the model's output layer, (B, L, V); L is 1 + N without a tree.

    Raises:
        ModelError: the model does not call its output layer once a pass, so the logits cannot be told apart.
    """
    chains = tree.chains if tree is not None else (tuple(range(batch.nodes.shape[1])),)
    nodes = range(-1, batch.nodes.shape[1]) if tree is None else tree.reads
    sequences, read = _sequences(batch, chains, nodes)
    arguments: dict[str, Any] = {"use_cache": False}
    with autocast(plan):
        if len(batch.prefix) and continues_from_cache(model):
            cache = read_prefix_cache(model, batch.prefix, len(sequences))
            arguments = {"use_cache": True, "past_key_values": cache}
        else:
            sequences = torch.cat([batch.prefix.expand(len(sequences), -1), sequences], dim=1)
            read = read + len(batch.prefix)
        # (B, L), index of each token that is read in the flattened sequences
        first = torch.tensor(_first_chains(chains, nodes), device=read.device)
        row = torch.arange(len(batch.rest), device=read.device)[:, None] * len(chains) + first
        with _tokens_read(model, row * sequences.shape[1] + read, sequences.shape[1]):
            output = model(input_ids=sequences, **arguments)
    logits: Tensor = output.logits
    return logits


def read_prefix_cache(model: nn.Module, prefix: Tensor, rows: int) -> DynamicCache:
    """Compute keys and values of the prefix (P,), at least one token, and repeat them for ``rows`` sequences."""
    cache = DynamicCache(config=model.config)
    model(input_ids=prefix[None], past_key_values=cache, use_cache=True, logits_to_keep=1)
    cache.batch_repeat_interleave(rows)
    return cache


def autocast(plan: DevicePlan) -> AbstractContextManager[Any]:
    """Compute products in the data type of ``plan``, whatever data type the weights are held in."""
    if plan.compute_dtype == "float32":
        return nullcontext()
    return torch.autocast(plan.device, dtype=plan.torch_dtype)


def _sequences(batch: Batch, chains: tuple[tuple[int, ...], ...], reads: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return the rests with each chain of answer nodes behind them, (R, T + D), and the columns to read, (B, L)."""
    (rows, width), nodes, device = batch.rest.shape, batch.nodes.shape[1], batch.rest.device
    longest = max(map(len, chains))
    padded_chains = [[*chain, *[nodes] * (longest - len(chain))] for chain in chains]  # node N is padding
    index = torch.tensor(padded_chains, dtype=torch.long, device=device)  # (C, D)
    answers = F.pad(batch.nodes, (0, 1))[:, index]  # (B, C, D)
    columns = batch.lengths[:, None, None] + torch.arange(longest, device=device).expand(rows, len(chains), -1)
    sequences = F.pad(batch.rest, (0, longest))[:, None].repeat(1, len(chains), 1).scatter(2, columns, answers)
    depths = {-1: 0} | {node: depth for chain in chains for depth, node in enumerate(chain, start=1)}
    after = torch.tensor([depths[node] for node in reads], device=device)
    return sequences.view(-1, width + longest), batch.lengths[:, None] - 1 + after


def _first_chains(chains: tuple[tuple[int, ...], ...], reads: Sequence[int]) -> list[int]:
    """Return the first chain that holds each node of ``reads``, (L,); the root, -1, begins them all."""
    first = {node: number for number, chain in reversed(tuple(enumerate(chains))) for node in (-1, *chain)}
    return [first[node] for node in reads]


class _Request(threading.local):
    """The tokens whose logits the current thread asks for; several threads may use one model."""

    head: nn.Module | None = None
    index: Tensor
    width = 0
    calls = 0


_request = _Request()
_hook_lock = threading.Lock()


@contextmanager
def _tokens_read(model: Any, index: Tensor, width: int) -> Iterator[None]:
    """Let the model's output layer compute logits for some tokens only, inside the context and in this thread.

    Unlike ``logits_to_keep``, every row has columns of its own; and whatever the model does to its logits afterwards,
    such as a soft cap, is kept.

    Args:
        model: the model.
        index: indices in the flattened sequences (R * S), (B, L).
        width: S. Soft prompts may stand before the sequences.
    """
    head = model.get_output_embeddings()
    if head is None:
        raise ModelError(f"{type(model).__name__}: has no output layer, so it cannot score answers")
    with _hook_lock:
        if _select_tokens not in head._forward_pre_hooks.values():
            head.register_forward_pre_hook(_select_tokens)
    _request.head, _request.index, _request.width, _request.calls = head, index, width, 0
    try:
        yield
    finally:
        _request.head = None
    if _request.calls != 1:
        raise ModelError(
            f"{type(model).__name__}: calls its output layer {_request.calls} times in one forward pass; whinchat "
            "needs exactly one call to read the answers' logits, so this architecture is not supported"
        )


def _select_tokens(head: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
    """Select the hidden states to compute logits for, (B, L, H), from all of them, (R, S, H)."""
    if _request.head is not head:
        return None
    _request.calls += 1
    if _request.calls > 1:
        return None
    hidden, *others = inputs
    return (hidden[:, -_request.width :].flatten(0, 1)[_request.index], *others)
