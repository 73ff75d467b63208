"""NF4 on the CPU, with the numbers of bitsandbytes in less time and memory.

O, I: rows and columns of a weight. N: elements of a weight. S: block size, the elements that share a scale.

bitsandbytes is imported when the first weight is quantized or dequantized, so that everything else works without it.

Source of the format: QLoRA, section 3 (arXiv:2305.14314).
"""

import math
import threading
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from whinchat.models.requirements import missing_bitsandbytes

# Elements quantized at a time. Below 32,768 elements torch uses one thread, which is wanted here: on busy cores,
# waiting for a second thread took 15 times as long as these short operations themselves.
_QUANTIZE_CHUNK = 1 << 14
# Elements dequantized at a time: 2 MB in bfloat16, which fit a core's cache.
_UNPACK_CHUNK = 1 << 20

_buffers = threading.local()


@cache
def require_bitsandbytes() -> Any:
    """Import bitsandbytes, which registers its operators with torch, and return its module ``functional``.

    Raises:
        ModelError: bitsandbytes is not installed, or cannot be loaded on this machine.
    """
    try:
        # An optional extra outside Linux, and slow to import.
        from bitsandbytes import functional
    except (ImportError, OSError, RuntimeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise missing_bitsandbytes(f"cannot be imported ({reason})") from error
    return functional


def unpack_nf4(weight: Any) -> Tensor:
    """Dequantize a weight of bitsandbytes, (O, I), to the data type of its quantization state.

    On a CPU the result lies in a buffer that the next call of the same thread overwrites. A fresh tensor for each call
    would fragment the heap: between tensors that are saved for the backward pass, blocks of tens of megabytes would be
    allocated and freed, and training a model of TinyLlama's shape grew to 4.5 GB.

    Args:
        weight: a ``Params4bit``.
    """
    state = weight.quant_state
    (rows, columns), block = state.shape, state.blocksize
    step = max(1, _UNPACK_CHUNK // columns)
    functional = require_bitsandbytes()
    if weight.device.type != "cpu" or step * columns % block or columns % 2:
        whole: Tensor = functional.dequantize_4bit(weight.data, state)
        return whole
    absmax = state.absmax
    if state.nested:
        absmax = functional.dequantize_blockwise(absmax, state.state2) + state.offset
    packed, unpacked = weight.data.view(-1, 1), _thread_buffer(state.shape, state.dtype)
    for first in range(0, rows, step):
        last = min(first + step, rows)
        start, stop, shape = first * columns, last * columns, (last - first, columns)
        codes, scales = packed[start // 2 : stop // 2], absmax[start // block : -(-stop // block)]
        unpacked[first:last] = torch.ops.bitsandbytes.dequantize_4bit.default(
            codes, scales, block, state.quant_type, shape, state.dtype
        )
    return unpacked


def _thread_buffer(shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """Return this thread's buffer, viewed as one weight of ``shape``; allocate a larger one where it is too small."""
    size = math.prod(shape)
    buffer: Tensor | None = getattr(_buffers, "buffer", None)
    if buffer is None or buffer.numel() < size or buffer.dtype != dtype:
        with torch.inference_mode(False):
            buffer = _buffers.buffer = torch.empty(size, dtype=dtype)
    return buffer[:size].view(shape)


class FastNF4(TorchFunctionMode):
    """A context in which ``quantize_nf4`` replaces bitsandbytes' own NF4 quantization on the CPU."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Replace the operator ``quantize_4bit``, and call every other function unchanged."""
        if func is torch.ops.bitsandbytes.quantize_4bit.default and not kwargs:
            weight, blocksize, quant_type, storage = args
            replaceable = quant_type == "nf4" and storage == torch.uint8 and weight.device.type == "cpu"
            if replaceable and weight.numel() % blocksize == 0:
                return quantize_nf4(weight, blocksize)
        return func(*args, **(kwargs or {}))


def quantize_nf4(weight: Tensor, blocksize: int = 64) -> tuple[Tensor, Tensor]:
    """Quantize a CPU tensor as ``torch.ops.bitsandbytes.quantize_4bit`` does, several times faster.

    Args:
        weight: N elements in any floating data type.
        blocksize: S, which divides N.

    Returns:
        The codes, two in each byte with the first in the high half, uint8, (N / 2, 1), and the largest magnitude of
        each block, float32, (N / S,).

    Source: QLoRA, section 3 (arXiv:2305.14314); the order of the float32 operations is bitsandbytes'.
    """
    lower_codes, boundaries = _code_table()
    flat = weight.detach().reshape(-1)  # (N,)
    packed = torch.empty(flat.numel() // 2, dtype=torch.uint8)
    absmax = torch.empty(flat.numel() // blocksize, dtype=torch.float32)
    step = max(_QUANTIZE_CHUNK // blocksize, 1)
    for first in range(0, absmax.numel(), step):
        scales = absmax[first : first + step]
        rows = flat[first * blocksize : (first + step) * blocksize].view(-1, blocksize).float()
        torch.amax(rows.abs(), dim=-1, out=scales)
        # The clamp avoids a division by zero in blocks that are zero throughout.
        scaled = (rows * (1.0 / scales.clamp(min=1e-38)).view(-1, 1)).clamp_(-1, 1).view(-1)
        upper = (scaled.view(torch.int32) >> 16).add_(1 << 15)  # upper 16 bits of each float32, as 0 to 65535
        codes = lower_codes.index_select(0, upper)
        codes += scaled > boundaries.index_select(0, upper)
        pairs = codes.view(-1, 2)
        start = first * blocksize // 2
        torch.add(pairs[:, 1], pairs[:, 0], alpha=16, out=packed[start : start + pairs.shape[0]])
    return packed.view(-1, 1), absmax


@cache
def _code_table() -> tuple[Tensor, Tensor]:
    """Build the table that quantizes a float32 by its upper 16 bits.

    The boundaries between codes lie so far apart that no two have the same upper bits. So at most one boundary is left
    to compare with once the upper bits are known.

    Returns:
        For each value of the upper bits, (65536,) each: the number of boundaries that lie below every float with these
        bits, uint8, and the one boundary that has these bits itself, float32, infinity where there is none.
    """
    levels = require_bitsandbytes().get_4bit_type("nf4", device="cpu")  # (16,), ascending
    borders = (levels[:-1] + levels[1:]) / 2
    upper = torch.arange(-(1 << 15), 1 << 15, dtype=torch.int32) << 16
    # The smallest float with given upper bits; of negative floats, the one whose lower bits are all set.
    lowest = torch.where(upper < 0, upper | 0xFFFF, upper).view(torch.float32)
    # NaN lies above every boundary, as in torch.bucketize.
    lower_codes = (len(borders) - (lowest.view(-1, 1) <= borders).sum(dim=1)).to(torch.uint8)
    boundaries = torch.full((1 << 16,), torch.inf)
    boundaries[(borders.view(torch.int32) >> 16) + (1 << 15)] = borders
    return lower_codes, boundaries
