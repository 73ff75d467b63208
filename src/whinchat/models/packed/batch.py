"""A batch as one line of tokens: the shared prefix, then the rows one after the other.

B: rows. P: tokens of the shared prefix. T: longest rest of a prompt. N: answer nodes. S: T + N. M: tokens in the line.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from whinchat.models.packed.autograd import GatherRows, ScatterRows
from whinchat.prompts.answer_tree import AnswerTree
from whinchat.prompts.batching import Batch

# Up to this share of padding the line holds it: taking rows out of the grid and back would cost more than it saves.
TOLERATED_PADDING = 0.05


@dataclass(frozen=True)
class PackedBatch:
    """A batch as the packed forward pass takes it.

    Attributes:
        tokens: (M,), the prefix if it is carried, then the rows, each its rest and its nodes.
        prefix, rows, width: P, B, S.
        carried: how many of the prefix's tokens stand in the line: P, or 0 where their keys and values are known.
        places: where in the flat grid (B * S) the tokens after the prefix stand, (M - carried,); None if they fill it.
        positions: (S,) or (B, S), positions in the prompt of the grid's tokens.
        hidden: (1 or B, S, P + S), True where a query may not see a key.
        columns: (B, 1 + N), columns of the grid after which logits are read.
    """

    tokens: Tensor
    prefix: int
    carried: int
    rows: int
    width: int
    places: Tensor | None
    positions: Tensor
    hidden: Tensor
    columns: Tensor

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The carried prefix (1, P or 0, ...) and the grid (B, S, ...) of a line (M, ...)."""
        prefix, rows = torch.split(x, [self.carried, len(x) - self.carried])
        if self.places is not None:
            rows = ScatterRows.apply(rows, self.places, self.rows * self.width)
        return prefix[None], rows.view(self.rows, self.width, *x.shape[1:])

    def join(self, prefix: Tensor, grid: Tensor) -> Tensor:
        """The line (M, ...) of a carried prefix (1, P or 0, ...) and a grid (B, S, ...)."""
        rows = grid.flatten(0, 1)
        if self.places is not None:
            rows = GatherRows.apply(rows, self.places)
        return torch.cat([prefix[0], rows])

    def reads(self) -> Tensor:
        """Where in the line logits are read, (B * (1 + N),)."""
        row = torch.arange(self.rows, device=self.columns.device)[:, None]
        places = (row * self.width + self.columns).flatten()
        if self.places is not None:
            places = torch.searchsorted(self.places, places)
        return self.carried + places


def pack(batch: Batch, tree: AnswerTree | None, *, known: bool = False) -> PackedBatch:
    """Put each row's nodes right behind its rest.

    Args:
        batch: what to lay out.
        tree: how the nodes attend to each other; None for a chain, each node after the one before.
        known: the prefix's keys and values are, so that its tokens can stay out.
    """
    (rows, longest), prefix, nodes = batch.rest.shape, len(batch.prefix), batch.nodes.shape[1]
    width, device = longest + nodes, batch.rest.device
    column = torch.arange(width, device=device)
    after = batch.lengths[:, None] + torch.arange(nodes, device=device)  # (B, N), columns of the nodes
    grid = torch.nn.functional.pad(batch.rest, (0, nodes)).scatter(1, after, batch.nodes)
    present = column < batch.lengths[:, None] + nodes  # (B, S)
    places = None
    if present.sum() < (1 - TOLERATED_PADDING) * present.numel():
        places = present.flatten().nonzero()[:, 0]
    positions = prefix + column
    # The padding stands behind everything, where no token that is read can see it.
    hidden = torch.arange(prefix + width, device=device) - prefix > column[:, None]  # (S, P + S)
    if tree is not None and tree.branches:
        depths = torch.tensor(tree.depths, device=device)
        positions = positions.expand(rows, -1).scatter(1, after, prefix + batch.lengths[:, None] - 1 + depths)
        hidden = _hide_branches(hidden, batch.lengths, tree, prefix)
    else:
        hidden = hidden[None]
    flat = grid.flatten() if places is None else grid.flatten()[places]
    columns = batch.lengths[:, None] - 1 + torch.arange(nodes + 1, device=device)
    carried = 0 if known else prefix
    tokens = torch.cat([batch.prefix[:carried], flat])
    return PackedBatch(tokens, prefix, carried, rows, width, places, positions, hidden, columns)


def _hide_branches(hidden: Tensor, lengths: Tensor, tree: AnswerTree, prefix: int) -> Tensor:
    """(B, S, P + S): as ``hidden`` (S, P + S), and a node does not see the nodes beside it."""
    visible = torch.tensor(tree.visible, device=hidden.device)  # (N, N)
    node = torch.arange(len(hidden), device=hidden.device) - lengths[:, None]  # (B, S), which node a column holds
    is_node = (node >= 0) & (node < len(visible))
    node = node.clamp(0, len(visible) - 1)
    beside = is_node[:, :, None] & is_node[:, None, :] & ~visible[node[:, :, None], node[:, None, :]]  # (B, S, S)
    return hidden | torch.nn.functional.pad(beside, (prefix, 0))
