"""A batch as one sequence of tokens: the shared prefix, then the rows one after the other.

B: rows. P: tokens of the shared prefix. T: longest rest of a prompt. N: answer nodes. S: T + N. M: tokens in all.
C: columns of logits that are read.

Layers that treat each token alone (linear layers, norms, feed-forward) work on the packed sequence (M, ...), which
holds the prefix once and hardly any padding. Attention works on the grid (B, S, ...), one line for each row.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from whinchat.models.packed.autograd import GatherRows, ScatterRows
from whinchat.prompts.answer_tree import AnswerTree
from whinchat.prompts.batching import Batch

# A packed sequence keeps its padding up to this share: moving rows out of the grid and back would cost more time.
TOLERATED_PADDING = 0.05


@dataclass(frozen=True)
class PackedBatch:
    """A batch in the form that the packed forward pass computes on.

    Attributes:
        tokens: token ids, (M,): the prefix unless it is cached, then each row's rest and answer nodes.
        prefix_length: P.
        prefix_tokens: leading entries of ``tokens`` that are the prefix: P, or 0 where its keys and values are cached.
        rows: B.
        width: S.
        length: number of positions, one more than the highest: of the branches of a tree only the longest counts.
        row_indices: indices in the flattened grid (B * S) of the tokens after the prefix, (M - prefix_tokens,); None
            where these tokens fill the whole grid.
        positions: position in the prompt of each token of the grid, (S,) or (B, S).
        attention_blocked: True where a token of the grid may not attend to a key, (1 or B, S, P + S).
        read_columns: columns of the grid whose logits are read, (B, C).
    """

    tokens: Tensor
    prefix_length: int
    prefix_tokens: int
    rows: int
    width: int
    length: int
    row_indices: Tensor | None
    positions: Tensor
    attention_blocked: Tensor
    read_columns: Tensor

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Split a packed sequence (M, ...) into the prefix (1, prefix_tokens, ...) and the grid (B, S, ...)."""
        prefix, rows = torch.split(x, [self.prefix_tokens, len(x) - self.prefix_tokens])
        if self.row_indices is not None:
            rows = ScatterRows.apply(rows, self.row_indices, self.rows * self.width)
        return prefix[None], rows.view(self.rows, self.width, *x.shape[1:])

    def join(self, prefix: Tensor, grid: Tensor) -> Tensor:
        """Join a prefix (1, prefix_tokens, ...) and a grid (B, S, ...) to a packed sequence (M, ...)."""
        rows = grid.flatten(0, 1)
        if self.row_indices is not None:
            rows = GatherRows.apply(rows, self.row_indices)
        return torch.cat([prefix[0], rows])

    def read_indices(self) -> Tensor:
        """Return the indices in the packed sequence of the tokens whose logits are read, (B * C,)."""
        row = torch.arange(self.rows, device=self.read_columns.device)[:, None]
        indices = (row * self.width + self.read_columns).flatten()
        if self.row_indices is not None:
            indices = torch.searchsorted(self.row_indices, indices)
        return self.prefix_tokens + indices


def pack(batch: Batch, tree: AnswerTree | None, *, prefix_cached: bool = False) -> PackedBatch:
    """Pack a batch, with the answer nodes of each row right behind its rest.

    Args:
        batch: prompts with answer tokens.
        tree: how the answer tokens attend to each other; None for a chain, where each follows the one before.
        prefix_cached: leave the prefix's tokens out, since its keys and values are cached.
    """
    (rows, longest), prefix, nodes = batch.rest.shape, len(batch.prefix), batch.nodes.shape[1]
    width, device = longest + nodes, batch.rest.device
    length = prefix + longest + (nodes if tree is None else max(tree.depths, default=0))
    column = torch.arange(width, device=device)
    node_columns = batch.lengths[:, None] + torch.arange(nodes, device=device)  # (B, N)
    grid = torch.nn.functional.pad(batch.rest, (0, nodes)).scatter(1, node_columns, batch.nodes)
    present = column < batch.lengths[:, None] + nodes  # (B, S)
    row_indices = None
    if present.sum() < (1 - TOLERATED_PADDING) * present.numel():
        row_indices = present.flatten().nonzero()[:, 0]
    # The columns of branches and of padding can lie beyond the last position.
    positions = (prefix + column).clamp_max(length - 1)
    # Padding stands behind everything, so causality alone hides it from every token that is read.
    blocked = torch.arange(prefix + width, device=device) - prefix > column[:, None]  # (S, P + S)
    if tree is not None and tree.has_branches:
        depths = torch.tensor(tree.depths, device=device)
        positions = positions.expand(rows, -1).scatter(1, node_columns, prefix + batch.lengths[:, None] - 1 + depths)
        blocked = _block_branches(blocked, batch.lengths, tree, prefix)
    else:
        blocked = blocked[None]
    reads = torch.arange(-1, nodes, device=device) if tree is None else torch.tensor(tree.reads, device=device)
    row_tokens = grid.flatten() if row_indices is None else grid.flatten()[row_indices]
    prefix_tokens = 0 if prefix_cached else prefix
    return PackedBatch(
        tokens=torch.cat([batch.prefix[:prefix_tokens], row_tokens]),
        prefix_length=prefix,
        prefix_tokens=prefix_tokens,
        rows=rows,
        width=width,
        length=length,
        row_indices=row_indices,
        positions=positions,
        attention_blocked=blocked,
        read_columns=batch.lengths[:, None] + reads,
    )


def _block_branches(blocked: Tensor, lengths: Tensor, tree: AnswerTree, prefix: int) -> Tensor:
    """Return ``blocked`` (S, P + S) for every row, (B, S, P + S), with each answer node blocked from other branches."""
    attends = torch.from_numpy(tree.attention_mask).to(blocked.device)  # (N, N)
    node = torch.arange(len(blocked), device=blocked.device) - lengths[:, None]  # (B, S), which node a column holds
    is_node = (node >= 0) & (node < len(attends))
    node = node.clamp(0, len(attends) - 1)
    other_branch = is_node[:, :, None] & is_node[:, None, :] & ~attends[node[:, :, None], node[:, None, :]]  # (B, S, S)
    return blocked | torch.nn.functional.pad(other_branch, (prefix, 0))
