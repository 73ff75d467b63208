"""NF4 on the CPU: bitsandbytes' numbers in less time and memory.

Source of the format: QLoRA, section 3 (arXiv:2305.14314).
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import bitsandbytes  # noqa: F401  # registers torch.ops.bitsandbytes
import torch
from bitsandbytes.functional import dequantize_4bit, dequantize_blockwise, get_4bit_type
from torch import Tensor
from torch.overrides import TorchFunctionMode

# Weights quantized at a time. Below 32,768 elements torch uses one thread: the operations are too short to be shared,
# and where the cores have other work, waiting for the second thread cost 15 times the work itself.
_QUANTIZED_AT_ONCE = 1 << 14


# Weights unpacked at a time: 2 MB in bfloat16, which a core's cache holds.
_UNPACKED_AT_ONCE = 1 << 20


def unpack_nf4(weight: Any) -> Tensor:
    """The weight that bitsandbytes' ``Params4bit`` stands for, (O, I), in the data type of its state.

    On a CPU it lies in memory that the next call in the same thread overwrites, and is unpacked in pieces. Blocks of
    tens of megabytes, made and freed between what is kept for the backward pass, would leave the heap full of holes:
    training TinyLlama's shape grew to 4.5 GB that way.
    """
    state = weight.quant_state
    rows, columns = state.shape
    step = max(1, _UNPACKED_AT_ONCE // columns)
    if weight.device.type != "cpu" or step * columns % state.blocksize or columns % 2:
        whole: Tensor = dequantize_4bit(weight.data, state)
        return whole
    absmax = state.absmax
    if state.nested:
        absmax = dequantize_blockwise(absmax, state.state2) + state.offset
    packed, unpacked = weight.data.view(-1, 1), _room(state.shape, state.dtype)
    for first in range(0, rows, step):
        last = min(first + step, rows)
        start, stop = first * columns, last * columns
        unpacked[first:last] = torch.ops.bitsandbytes.dequantize_4bit.default(
            packed[start // 2 : stop // 2],
            absmax[start // state.blocksize : -(-stop // state.blocksize)],
            state.blocksize,
            state.quant_type,
            (last - first, columns),
            state.dtype,
        )
    return unpacked


_rooms = threading.local()


def _room(shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """This thread's memory for one weight of ``shape``."""
    size = math.prod(shape)
    room: Tensor | None = getattr(_rooms, "room", None)
    if room is None or room.numel() < size or room.dtype != dtype:
        with torch.inference_mode(False):
            room = _rooms.room = torch.empty(size, dtype=dtype)
    return room[:size].view(shape)


class FastNF4(TorchFunctionMode):
    """Within it, bitsandbytes' NF4 quantization on the CPU is answered by ``quantize_nf4``."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Answer the one operator, and pass on all others."""
        if func is torch.ops.bitsandbytes.quantize_4bit.default and not kwargs:
            weight, blocksize, quant_type, storage = args
            ours = quant_type == "nf4" and storage == torch.uint8 and weight.device.type == "cpu"
            if ours and weight.numel() % blocksize == 0:
                return quantize_nf4(weight, blocksize)
        return func(*args, **(kwargs or {}))


def quantize_nf4(weight: Tensor, blocksize: int = 64) -> tuple[Tensor, Tensor]:
    """Quantize a CPU tensor as ``torch.ops.bitsandbytes.quantize_4bit`` does, several times faster.

    N: weights; S: ``blocksize``, which divides N.

    Args:
        weight: any floating dtype, N elements.
        blocksize: weights that share a scale.

    Returns:
        Two codes a byte, first in the high half, uint8, shape (N / 2, 1); largest magnitude of each block, float32,
        shape (N / S,).

    Source: QLoRA, section 3 (arXiv:2305.14314); the order of the float32 operations is bitsandbytes'.
    """
    below, border = _code_table()
    flat = weight.detach().reshape(-1)  # (N,)
    packed = torch.empty(flat.numel() // 2, dtype=torch.uint8)
    absmax = torch.empty(flat.numel() // blocksize, dtype=torch.float32)
    step = max(_QUANTIZED_AT_ONCE // blocksize, 1)
    for first in range(0, absmax.numel(), step):
        scales = absmax[first : first + step]
        rows = flat[first * blocksize : (first + step) * blocksize].view(-1, blocksize).float()
        torch.amax(rows.abs(), dim=-1, out=scales)
        # All-zero blocks are divided by something, too.
        scaled = (rows * (1.0 / scales.clamp(min=1e-38)).view(-1, 1)).clamp_(-1, 1).view(-1)
        cell = (scaled.view(torch.int32) >> 16).add_(1 << 15)  # upper half of each float32's bits, as 0 ... 65535
        codes = below.index_select(0, cell)
        codes += scaled > border.index_select(0, cell)
        pairs = codes.view(-1, 2)
        start = first * blocksize // 2
        torch.add(pairs[:, 1], pairs[:, 0], alpha=16, out=packed[start : start + pairs.shape[0]])
    return packed.view(-1, 1), absmax


@cache
def _code_table() -> tuple[Tensor, Tensor]:
    """For each upper half of a float32's bits: codes surely below the value, and the one boundary it may pass.

    Boundaries lie so far apart that no two have the same upper half.
    """
    levels = get_4bit_type("nf4", device="cpu")  # (16,), ascending
    borders = (levels[:-1] + levels[1:]) / 2
    upper = torch.arange(-(1 << 15), 1 << 15, dtype=torch.int32) << 16
    # A negative float is smallest where its lower bits are all set.
    lowest = torch.where(upper < 0, upper | 0xFFFF, upper).view(torch.float32)
    # NaN lies above every boundary, as in torch.bucketize.
    below = (len(borders) - (lowest.view(-1, 1) <= borders).sum(dim=1)).to(torch.uint8)
    border = torch.full((1 << 16,), torch.inf)
    border[(borders.view(torch.int32) >> 16) + (1 << 15)] = borders
    return below, border
