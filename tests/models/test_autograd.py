"""Each hand-written function equals the library's in float32, forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig
from transformers.activations import ACT2FN
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm, LlamaRotaryEmbedding, apply_rotary_pos_emb
from transformers.models.olmo2.modeling_olmo2 import Olmo2RMSNorm

from whinchat.models.packed.autograd import (
    CappedScores,
    Dropout,
    GatherRows,
    GeGlu,
    RmsNorm,
    RotaryEmbedding,
    ScatterRows,
    SoftCap,
    SwiGlu,
    draw_kept,
    keep,
)


def assert_same(ours: Callable[..., Tensor], theirs: Callable[..., Tensor], *inputs: Tensor) -> None:
    """Equal results and equal gradients of every input, for a gradient that is not the same everywhere."""
    found, wanted = ours(*inputs), theirs(*inputs)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    grad = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(5))
    for one, other in zip(
        torch.autograd.grad(found, inputs, grad), torch.autograd.grad(wanted, inputs, grad), strict=True
    ):
        assert other.abs().max() > 0
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).requires_grad_()


@pytest.mark.parametrize("size", [1.0, 1e-3])
def test_rms_norm(size: float) -> None:
    norm = LlamaRMSNorm(24, eps=1e-5)
    norm.weight.data.uniform_(0.5, 1.5)
    x = (size * drawn(7, 24)).detach().requires_grad_()
    weight = norm.weight.detach()
    assert_same(lambda x: RmsNorm.apply(x, weight, 1e-5), norm, x)


NORMS: dict[type[Any], Callable[[Any], Tensor]] = {
    LlamaRMSNorm: lambda norm: norm.weight,
    Olmo2RMSNorm: lambda norm: norm.weight.float(),
    Gemma2RMSNorm: lambda norm: 1 + norm.weight.float(),
}


@pytest.mark.parametrize("kind", NORMS)
def test_rms_norm_rounds_bfloat16_where_transformers_does(kind: type[Any]) -> None:
    norm = kind(64, eps=1e-5).to(torch.bfloat16)
    norm.weight.data.uniform_(0.5, 1.5)
    x = (3 * drawn(200, 64)).detach().to(torch.bfloat16)
    found = RmsNorm.apply(x, NORMS[kind](norm).detach(), 1e-5)
    assert found.dtype == torch.bfloat16
    # The float32 sums may differ in their last bit, which moves a value that lies between two bfloat16 numbers.
    assert (found == norm(x)).float().mean() > 0.999


def test_rotary_embedding() -> None:
    heads, width, tokens = 3, 8, 5
    embedding = LlamaRotaryEmbedding(LlamaConfig(hidden_size=heads * width, num_attention_heads=heads))
    x = drawn(2, tokens, heads, width)
    positions = torch.tensor([[0, 1, 2, 3, 4], [7, 3, 9, 9, 30]])
    cos, sin = embedding(x, positions)

    def theirs(x: Tensor) -> Tensor:
        return apply_rotary_pos_emb(x.transpose(1, 2), x.transpose(1, 2), cos, sin)[0]

    half = width // 2
    assert_same(lambda x: RotaryEmbedding.apply(x, cos[..., :half], sin[..., :half]), theirs, x)
    # Angles that all rows share.
    cos, sin = embedding(x, positions[1:])
    assert_same(lambda x: RotaryEmbedding.apply(x, cos[0, :, :half], sin[0, :, :half]), theirs, x)


@pytest.mark.parametrize("rotated", [6, 0])
def test_rotary_embedding_of_a_part_of_each_head(rotated: int) -> None:
    x, angle = drawn(2, 5, 3, 8), drawn(5, rotated, seed=1).detach()
    cos, sin = angle.cos(), angle.sin()
    half = rotated // 2

    def by_hand(x: Tensor) -> Tensor:
        x = x.transpose(1, 2)
        turning, rest = x[..., :rotated], x[..., rotated:]
        other = torch.cat([-turning[..., half:], turning[..., :half]], dim=-1)
        twice_cos, twice_sin = (torch.cat([angles[:, :half]] * 2, dim=-1) for angles in (cos, sin))
        return torch.cat([turning * twice_cos + other * twice_sin, rest], dim=-1)

    assert_same(lambda x: RotaryEmbedding.apply(x, cos[:, :half], sin[:, :half]), by_hand, x)


def test_rotary_embedding_of_bfloat16_by_float32_angles_is_rounded_once() -> None:
    x, angle = drawn(2, 5, 3, 8).detach().bfloat16(), drawn(5, 4, seed=1).detach()
    found = RotaryEmbedding.apply(x, angle.cos(), angle.sin())
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, RotaryEmbedding.apply(x.float(), angle.cos(), angle.sin()).bfloat16())


def test_swiglu() -> None:
    gate, up = drawn(6, 10), drawn(6, 10, seed=1)
    assert_same(SwiGlu.apply, lambda gate, up: torch.nn.functional.silu(gate) * up, gate, up)


def test_geglu() -> None:
    gate, up = drawn(6, 10), drawn(6, 10, seed=1)
    assert_same(GeGlu.apply, lambda gate, up: ACT2FN[GeGlu.activation](gate) * up, gate, up)


def test_soft_cap() -> None:
    x = (3 * drawn(6, 10)).detach().requires_grad_()
    assert_same(lambda x: SoftCap.apply(x, 2.0), lambda x: torch.tanh(x / 2.0) * 2.0, x)


def test_scatter_and_gather_undo_each_other() -> None:
    index = torch.tensor([4, 0, 2])
    x = drawn(3, 4, 2)

    def by_hand(x: Tensor) -> Tensor:
        grid = torch.zeros(6, 4, 2)
        grid[index] = x
        return grid

    assert_same(lambda x: ScatterRows.apply(x, index, 6), by_hand, x)
    grid = drawn(6, 4, 2, seed=1)
    assert_same(lambda grid: GatherRows.apply(grid, index), lambda grid: grid[index], grid)
    assert torch.equal(GatherRows.apply(ScatterRows.apply(x, index, 6), index), x)


def test_capped_scores() -> None:
    x = drawn(6, 4, 5)
    mask = torch.zeros(1, 4, 5).masked_fill(torch.ones(4, 5).triu(2).bool(), -torch.inf)

    def weights(scores: Tensor) -> Tensor:
        return scores.softmax(dim=-1)

    assert_same(lambda x: weights(CappedScores.apply(x, mask, 3.0)), lambda x: weights(3 * torch.tanh(x) + mask), x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("shape", [(40, 25), (1003,)])
def test_dropout(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x = drawn(*shape).detach().to(dtype).requires_grad_()
    torch.manual_seed(3)
    dropped = Dropout.apply(x, 0.25)
    torch.manual_seed(3)
    kept = draw_kept(x, 0.25).bool()
    assert kept.shape == x.shape
    assert 0.1 < (~kept).float().mean() < 0.4
    torch.testing.assert_close(dropped, torch.where(kept, x / 0.75, 0.0).to(dtype))
    (gradient,) = torch.autograd.grad(dropped, x, torch.full_like(x, 3.0))
    torch.testing.assert_close(gradient, kept.to(dtype) * 4)
    assert not draw_kept(x, 0.25).bool().equal(kept)


@pytest.mark.parametrize("p", [0.001, 0.1, 0.5, 0.999])
def test_dropout_keeps_values_independently(p: float) -> None:
    """Six standard errors, for the values in all four parts of a random number, and for each two of these parts."""
    torch.manual_seed(3)
    kept = -draw_kept(torch.empty(100_000, 4), p).float()
    error = 6 * (p * (1 - p) / len(kept)) ** 0.5
    assert (kept.mean(dim=0) - (1 - p)).abs().max() < error
    together = (kept.T @ kept / len(kept)).fill_diagonal_((1 - p) ** 2)
    assert (together - (1 - p) ** 2).abs().max() < error


def test_dropout_of_nearly_all_values() -> None:
    assert -draw_kept(torch.empty(10_000), 0.9999999).float().mean() < 0.01


def test_what_is_dropped_is_zero() -> None:
    x = torch.tensor([float("inf"), float("nan"), -1.5, -0.0])
    dropped = keep(x, torch.zeros(4, dtype=torch.int8))
    assert dropped.tolist() == [0, 0, 0, 0]
    assert keep(x, torch.full((4,), -1, dtype=torch.int8)).view(torch.int32).equal(x.view(torch.int32))
