"""Attention of a packed batch: rotary angles and masks built once for all layers of a kind, products for each layer.

B: rows. P: tokens of the shared prefix. N: answer nodes. S: columns of the grid. K: key heads. G: query heads for each
key head. D: width of a head. R: width of the part of a head that turns. L: keys that a query may attend to. Q: queries
of a row.

On a CPU the products are plain matrix products: at the lengths of short texts they cost less than a fused kernel. On an
accelerator a fused kernel computes them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F  # noqa: N812  # the name that PyTorch code uses
from torch import Tensor

from whinchat.models.packed.autograd import CappedScores, RotaryEmbedding
from whinchat.models.packed.batch import PackedBatch

# From this many queries a row on, the fused kernel is faster on a CPU, but only without gradients (docs/decisions.md).
FUSED_FROM = 128


@dataclass(frozen=True)
class AttentionKind:
    """How a layer attends. Layers of one kind share their masks and rotary angles.

    Attributes:
        scale: factor of the products of queries and keys.
        window: number of positions that a query attends to, the last of them its own; None for all before its own.
        rotary: which rotary embedding turns queries and keys: "default" where the model has a single one, the type of
            the layer where the model has several; None where none does.
        soft_cap: bound of the scaled products, which become ``cap * tanh(product / cap)``; None for no bound.
    """

    scale: float
    window: int | None = None
    rotary: str | None = "default"
    soft_cap: float | None = None

    def within(self, length: int) -> AttentionKind:
        """Return the kind for prompts of at most ``length`` tokens: without a window where this one holds them all."""
        return self if self.window is None or self.window < length else replace(self, window=None)


@dataclass(frozen=True)
class QueryBlock:
    """Rotary angles, factors and mask of one block of queries.

    Attributes:
        cos, sin: rotary angles at the positions of the queries, (..., Q, R / 2).
        scales: factors of the queries by their positions, (..., Q); None where positions change no scale.
        mask: added to the scores, 0 where a query attends to a key and -inf elsewhere, (1 or B * K, G * Q, L).
    """

    cos: Tensor
    sin: Tensor
    scales: Tensor | None
    mask: Tensor


@dataclass(frozen=True)
class AttentionPlan:
    """The blocks of queries of a packed batch; the same for every layer of a kind.

    Attributes:
        kind: how these layers attend.
        prefix: the tokens of the shared prefix.
        grid: the tokens of the grid.
        reads: the tokens whose logits are read, the only ones that the last layer computes.
    """

    kind: AttentionKind
    prefix: QueryBlock
    grid: QueryBlock
    reads: QueryBlock

    @classmethod
    def build(
        cls,
        batch: PackedBatch,
        kind: AttentionKind,
        angles: tuple[Tensor, Tensor],
        query_scales: Tensor | None,
        heads: tuple[int, int],
        dtype: torch.dtype,
    ) -> AttentionPlan:
        """Select the angles and build the masks of all three blocks.

        Args:
            batch: the packed batch.
            kind: how the layers attend.
            angles: cos and sin of all ``batch.length`` positions, (length, R / 2) each.
            query_scales: factors of queries at these positions, (length,); None where positions change no scale.
            heads: K and G.
            dtype: data type of the masks.
        """
        (cos, sin), (key_heads, groups) = angles, heads
        prefix = torch.arange(batch.prefix_length, device=cos.device)
        causal = (prefix > prefix[:, None])[None]
        blocked = batch.attention_blocked
        if kind.window is not None:
            causal = causal | beyond_window(prefix, prefix, kind.window)
            keys = torch.cat([prefix.expand(*batch.positions.shape[:-1], -1), batch.positions], dim=-1)
            blocked = blocked | beyond_window(batch.positions, keys, kind.window)
        row = torch.arange(batch.rows, device=cos.device)[:, None]
        read_positions = batch.positions.expand(batch.rows, -1)[row, batch.read_columns]
        read_blocked = blocked.expand(batch.rows, -1, -1)[row, batch.read_columns]

        def block(positions: Tensor, blocked: Tensor) -> QueryBlock:
            mask = torch.zeros(blocked.shape, dtype=dtype, device=cos.device).masked_fill_(blocked, -torch.inf)
            mask = mask.repeat(1, groups, 1)
            if len(mask) > 1:
                mask = mask.repeat_interleave(key_heads, dim=0)
            scales = None if query_scales is None else query_scales[positions]
            return QueryBlock(cos[positions], sin[positions], scales, mask)

        return cls(
            kind,
            prefix=block(prefix, causal),
            grid=block(batch.positions, blocked),
            reads=block(read_positions, read_blocked),
        )


def beyond_window(queries: Tensor, keys: Tensor, window: int) -> Tensor:
    """Return where a key lies before the window of a query.

    Args:
        queries: positions of the queries, (..., Q).
        keys: positions of the keys, (..., L).
        window: number of positions that a query attends to, the last of them its own.

    Returns:
        True where the query may not attend, (..., Q, L).
    """
    return keys[..., None, :] <= queries[..., :, None] - window


def attend(kind: AttentionKind, block: QueryBlock, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Rotate the queries to their positions and attend to keys and values.

    Args:
        kind: how the layer attends.
        block: angles and mask of the queries.
        queries: (B, Q, K * G, D), not yet rotated.
        keys: (B, K, L, D), rotated.
        values: (B, K, L, D).

    Returns:
        The attended values, heads side by side, (B, Q, K * G * D).
    """
    rows, count, heads, width = queries.shape
    queries = RotaryEmbedding.apply(queries, block.cos, block.sin)  # (B, K * G, Q, D)
    if block.scales is not None:
        queries = queries * block.scales[..., None, :, None]
    # The queries of a group share their keys, so one product serves all of them.
    pays = queries.device.type != "cpu" or (count >= FUSED_FROM and not torch.is_grad_enabled())
    if pays and kind.soft_cap is None:
        grouped = queries.view(rows, keys.shape[1], -1, width)
        mask = block.mask.unflatten(0, (-1, keys.shape[1] if len(block.mask) > 1 else 1))
        mixed = F.scaled_dot_product_attention(grouped, keys, values, attn_mask=mask, scale=kind.scale)
        return mixed.reshape(rows, heads, count, width).transpose(1, 2).flatten(2)
    queries = queries.view(rows * keys.shape[1], -1, width)  # (B * K, G * Q, D)
    if kind.soft_cap is None:
        scores = torch.baddbmm(block.mask, queries, keys.flatten(0, 1).mT, alpha=kind.scale)
    else:
        # beta=0 leaves the first argument out.
        scale = kind.scale / kind.soft_cap
        products = torch.baddbmm(queries.new_empty(1, 1, 1), queries, keys.flatten(0, 1).mT, beta=0, alpha=scale)
        scores = CappedScores.apply(products, block.mask, kind.soft_cap)
    mixed = scores.softmax(dim=-1) @ values.flatten(0, 1)
    return mixed.view(rows, heads, count, width).transpose(1, 2).flatten(2)
