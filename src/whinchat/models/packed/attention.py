"""Attention of a packed batch: rotary angles and masks built once for all layers, products for each layer.

B: rows. P: tokens of the shared prefix. N: answer nodes. S: columns of the grid. K: key heads. G: query heads for each
key head. D: width of a head. L: keys that a query may attend to. Q: queries of a row.

The products are plain matrix products: at the lengths of short texts they cost less than a fused kernel.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812  # the name that PyTorch code uses
from torch import Tensor

from whinchat.models.packed.autograd import RotaryEmbedding
from whinchat.models.packed.batch import PackedBatch

# From this many queries a row on, the fused kernel is faster, but only without gradients (docs/decisions.md).
FUSED_FROM = 128


@dataclass(frozen=True)
class QueryBlock:
    """Rotary angles and mask of one block of queries.

    Attributes:
        cos, sin: rotary angles at the positions of the queries, (..., Q, D / 2).
        mask: added to the scores, 0 where a query attends to a key and -inf elsewhere, (1 or B * K, G * Q, L).
    """

    cos: Tensor
    sin: Tensor
    mask: Tensor


@dataclass(frozen=True)
class AttentionPlan:
    """The blocks of queries of a packed batch; the same for every layer.

    Attributes:
        prefix: the tokens of the shared prefix.
        grid: the tokens of the grid.
        reads: the tokens whose logits are read, the only ones that the last layer computes.
    """

    prefix: QueryBlock
    grid: QueryBlock
    reads: QueryBlock

    @classmethod
    def build(cls, batch: PackedBatch, cos: Tensor, sin: Tensor, key_heads: int, groups: int) -> AttentionPlan:
        """Select the angles and build the masks of all three blocks.

        Args:
            batch: the packed batch.
            cos, sin: rotary angles of the positions 0 to P + S - 1, (P + S, D / 2). Masks take their data type.
            key_heads: K.
            groups: G.
        """
        positions = torch.arange(batch.prefix_length + batch.width, device=cos.device)
        prefix = positions[: batch.prefix_length]
        causal = (prefix > prefix[:, None])[None]
        row = torch.arange(batch.rows, device=cos.device)[:, None]
        read_positions = batch.positions.expand(batch.rows, -1)[row, batch.read_columns]
        read_blocked = batch.attention_blocked.expand(batch.rows, -1, -1)[row, batch.read_columns]

        def block(positions: Tensor, blocked: Tensor) -> QueryBlock:
            mask = torch.zeros(blocked.shape, dtype=cos.dtype, device=cos.device).masked_fill_(blocked, -torch.inf)
            mask = mask.repeat(1, groups, 1)
            if len(mask) > 1:
                mask = mask.repeat_interleave(key_heads, dim=0)
            return QueryBlock(cos[positions], sin[positions], mask)

        return cls(
            prefix=block(prefix, causal),
            grid=block(batch.positions, batch.attention_blocked),
            reads=block(read_positions, read_blocked),
        )


def attend(queries: Tensor, block: QueryBlock, keys: Tensor, values: Tensor) -> Tensor:
    """Rotate the queries to their positions and attend to keys and values.

    Args:
        queries: (B, Q, K * G, D), not yet rotated.
        block: angles and mask of these queries.
        keys: (B, K, L, D), rotated.
        values: (B, K, L, D).

    Returns:
        The attended values, heads side by side, (B, Q, K * G * D).
    """
    rows, count, heads, width = queries.shape
    queries = RotaryEmbedding.apply(queries, block.cos, block.sin)  # (B, K * G, Q, D)
    # The queries of a group share their keys, so one product serves all of them.
    if count >= FUSED_FROM and not torch.is_grad_enabled():
        grouped = queries.view(rows, keys.shape[1], -1, width)
        mask = block.mask.unflatten(0, (-1, keys.shape[1] if len(block.mask) > 1 else 1))
        mixed = F.scaled_dot_product_attention(grouped, keys, values, attn_mask=mask)
        return mixed.reshape(rows, heads, count, width).transpose(1, 2).flatten(2)
    queries = queries.view(rows * keys.shape[1], -1, width)  # (B * K, G * Q, D)
    scores = torch.baddbmm(block.mask, queries, keys.flatten(0, 1).mT, alpha=width**-0.5)
    mixed = scores.softmax(dim=-1) @ values.flatten(0, 1)
    return mixed.view(rows, heads, count, width).transpose(1, 2).flatten(2)
