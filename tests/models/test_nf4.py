"""NF4 weights dequantized in chunks are bit-identical to those of bitsandbytes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Params4bit

from whinchat.models import nf4
from whinchat.models.nf4 import unpack_nf4


def quantized(rows: int, columns: int, dtype: torch.dtype, nested: bool, seed: int = 0) -> Any:
    weight = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)).to(dtype)
    return Params4bit(weight, requires_grad=False, quant_type="nf4", compress_statistics=nested).to("cpu")


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(96, 64), (50, 192), (7, 320), (33, 24), (5, 9)])
def test_bit_equal(shape: tuple[int, int], dtype: torch.dtype, nested: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nf4, "_UNPACK_CHUNK", 1024)
    weight = quantized(*shape, dtype, nested)
    found = unpack_nf4(weight)
    assert found.dtype == dtype
    assert torch.equal(found, dequantize_4bit(weight.data, weight.quant_state))


def test_one_buffer_serves_all_weights_of_a_thread() -> None:
    large, small = quantized(96, 64, torch.bfloat16, True), quantized(32, 64, torch.bfloat16, True, seed=1)
    first = unpack_nf4(large)
    wanted = dequantize_4bit(small.data, small.quant_state)
    with torch.inference_mode():
        second = unpack_nf4(small)
    assert second.data_ptr() == first.data_ptr()
    assert torch.equal(second, wanted)
    # Made under inference mode or not, the weight can be multiplied in a step that needs gradients.
    x = torch.randn(3, 64, dtype=torch.bfloat16, requires_grad=True)
    (x @ unpack_nf4(small).T).sum().backward()
    assert x.grad is not None
