"""Floating-point operations of everything that is a matrix product, counted by torch as the program runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

# torch hands a formula the shapes of tensors and everything else as it is.
Shape = Sequence[int]


def counted(program: Callable[[], None]) -> float:
    """Operations of ``program``: 2 m n k for each product of (m, k) and (k, n), forward and backward.

    Products inside compiled code are not seen; whinchat has none on this path.
    """
    with FlopCounterMode(display=False, custom_mapping=_missing_from_torch()) as counter:
        program()
    return float(counter.get_total_flops())


def _missing_from_torch() -> dict[Any, Callable[..., int]]:
    """Products on CPUs that torch's own table lacks: in-place ones, oneDNN's linear layer, CPU attention."""
    aten = torch.ops.aten
    table: dict[Any, Callable[..., int]] = {
        aten.addmm_: _added_product,
        aten.baddbmm_: _added_product,
        aten._scaled_dot_product_flash_attention_for_cpu: _attention,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
    }
    if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        table[torch.ops.mkldnn._linear_pointwise] = _linear
    return table


def _added_product(_sum: Any, a: Shape, b: Shape, *_: Any, **__: Any) -> int:
    """a (..., M, K) times b (..., K, N)."""
    return 2 * prod(a) * b[-1]


def _linear(x: Shape, weight: Shape, *_: Any, **__: Any) -> int:
    """x (..., I) times weight (O, I) transposed."""
    return 2 * prod(x) * weight[0]


def _attention(query: Shape, key: Shape, value: Shape, *_: Any, **__: Any) -> int:
    """Scores and sums: query (B, H, S, D), key (B, H, L, D), value (B, H, L, E)."""
    rows = prod(query[:-1])
    return 2 * rows * key[-2] * (query[-1] + value[-1])


def _attention_backward(_grad: Any, query: Shape, key: Shape, value: Shape, *_: Any, **__: Any) -> int:
    """Scores once more, then the gradients of scores, values, queries and keys."""
    rows = prod(query[:-1])
    return 2 * rows * key[-2] * (3 * query[-1] + 2 * value[-1])
