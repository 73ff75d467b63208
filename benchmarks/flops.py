"""Operations of everything that is a matrix product, counted by torch while a program runs."""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

# torch hands a formula the shapes of tensors, and everything else as it is.
Shape = Sequence[int]


def counted(program: Callable[[], None]) -> float:
    """Return the operations of ``program``: 2 m n k for each product of (m, k) and (k, n), forward and backward.

    Products inside compiled code are not seen; whinchat's training and scoring have none.
    """
    # Products on CPUs that torch's own table lacks: in-place ones, oneDNN's linear layer, attention.
    aten = torch.ops.aten
    table: dict[Any, Callable[..., int]] = {
        aten.addmm_: lambda added, a, b, *_, **__: 2 * prod(a) * b[-1],  # a (..., M, K) times b (..., K, N)
        aten.baddbmm_: lambda added, a, b, *_, **__: 2 * prod(a) * b[-1],
        aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: _attention(q, k, v, 1, 1),
        # Scores once more, then the gradients of scores, values, queries and keys.
        aten._scaled_dot_product_flash_attention_for_cpu_backward: lambda grad, q, k, v, *_, **__: _attention(
            q, k, v, 3, 2
        ),
    }
    if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        # x (..., I) times the transposed weight (O, I)
        table[torch.ops.mkldnn._linear_pointwise] = lambda x, weight, *_, **__: 2 * prod(x) * weight[0]
    with FlopCounterMode(display=False, custom_mapping=table) as counter:
        program()
    return float(counter.get_total_flops())


def _attention(query: Shape, key: Shape, value: Shape, score_products: int, value_products: int) -> int:
    """Products over query (B, H, S, D), key (B, H, L, D) and value (B, H, L, E)."""
    return 2 * prod(query[:-1]) * key[-2] * (score_products * query[-1] + value_products * value[-1])
