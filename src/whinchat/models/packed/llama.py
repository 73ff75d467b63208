"""The forward pass for Llama and Mistral, laid out for what whinchat does: many short texts under one instruction.

B: rows. P: tokens of the shared prefix. N: answer nodes. S: longest rest of a prompt with its nodes. M: tokens in all.
H: width of the model. K: key heads. G: query heads a key head. D: width of a head. V: vocabulary.

Prefix and rows stand in one line of M tokens, and every layer but attention works on that line: the prefix once, and
hardly any padding. For attention the rows become a grid (B, S); its products are plain ones, which at these lengths
cost less than a fused kernel. The last layer computes only what is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from peft import PeftModel
from torch import Tensor, nn
from transformers import LlamaForCausalLM, MistralForCausalLM

from whinchat.models.device import DevicePlan
from whinchat.models.lm_head import read_logits
from whinchat.models.packed.autograd import GatherRows, RmsNorm, RotaryEmbedding, SwiGlu
from whinchat.models.packed.batch import PackedBatch, pack
from whinchat.models.packed.linear import adapted_linear, supports_linear
from whinchat.prompts.answer_tree import AnswerTree
from whinchat.prompts.batching import Batch

# Queries of a row from which on the fused kernel wins; its backward pass never does (docs/decisions.md).
FUSED_FROM = 128
# How PEFT begins the names of LoRA's and DoRA's weights.
ADAPTER_PREFIX = "lora_"


def is_packable(model: nn.Module, plan: DevicePlan) -> bool:
    """Whether ``packed_logits`` computes what ``model`` does; every other model goes the plain way.

    So does every model whose plan asks for a fused attention kernel.
    """
    core = _core(model)
    if type(core) not in (LlamaForCausalLM, MistralForCausalLM):
        return False
    config = core.config
    return (
        plan.attn_implementation == "eager"
        and config.hidden_act == "silu"
        and not config.attention_dropout
        # The other kinds turn by angles that depend on how long the prompt is.
        and core.model.rotary_emb.rope_type in ("default", "linear", "llama3", "yarn")
        and core.model.embed_tokens.weight.dtype == plan.torch_dtype
        and len(set(getattr(core, "hf_device_map", {}).values())) <= 1
        and all(supports_linear(part) for part in _parts(core))
        and not (torch.is_grad_enabled() and _trains_base(core))
    )


def _parts(core: Any) -> Iterator[nn.Module]:
    """The modules whose weights are read here rather than their own forward pass called."""
    yield from (core.model.embed_tokens, core.model.norm)
    for layer in core.model.layers:
        attention, mlp = layer.self_attn, layer.mlp
        yield from (layer.input_layernorm, layer.post_attention_layernorm)
        yield from (attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj)
        yield from (mlp.gate_proj, mlp.up_proj, mlp.down_proj)


def _trains_base(core: nn.Module) -> bool:
    """Whether weights other than an adapter's train; the hand-written backward passes give them no gradient."""
    return any(weight.requires_grad and ADAPTER_PREFIX not in name for name, weight in core.named_parameters())


def _core(model: nn.Module) -> Any:
    """The transformers model, inside PEFT's where there is an adapter."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


@dataclass(frozen=True)
class Prefix:
    """What texts need of the prefix before them; it holds until a weight changes or another adapter is set.

    Attributes:
        ids: its P tokens.
        layers: keys, turned, and values of each layer, both (1, K, P, D).
    """

    ids: tuple[int, ...]
    layers: tuple[tuple[Tensor, Tensor], ...]


def read_prefix(model: nn.Module, ids: tuple[int, ...], device: torch.device) -> Prefix:
    """Read a prefix once for all texts to come, with a model that ``is_packable``."""
    core, none = _core(model), torch.empty(0, dtype=torch.long, device=device)
    tokens = torch.tensor([ids], device=device)
    line = pack(Batch(none, tokens, torch.tensor([len(ids)], device=device), none[None]), None)
    x = core.model.embed_tokens(line.tokens)
    views, found = AttentionPlan.of(core, line, x), []
    for layer in core.model.layers:
        x, keys, values = _layer(layer, x, line, views)
        found.append((keys, values))
    return Prefix(ids, tuple(found))


def packed_logits(
    model: nn.Module,
    batch: Batch,
    tree: AnswerTree | None,
    prefix: Prefix | None = None,
    vocabulary: tuple[int, ...] | None = None,
) -> Tensor:
    """Logits after the prompt and after each answer node, (B, 1 + N, V), of a model that ``is_packable``.

    Args:
        model: it.
        batch: prompts with answer tokens.
        tree: how the answer tokens attend to each other; None for a chain.
        prefix: that of ``batch``, read before; None to read it here.
        vocabulary: the tokens that get logits; None for all.
    """
    core = _core(model)
    line = pack(batch, tree, known=prefix is not None)
    x = core.model.embed_tokens(line.tokens)  # (M, H)
    views, reads = AttentionPlan.of(core, line, x), line.reads()
    last = len(core.model.layers) - 1
    for at, layer in enumerate(core.model.layers):
        known = None if prefix is None else prefix.layers[at]
        x, _, _ = _layer(layer, x, line, views, known, reads if at == last else None)
    hidden = _normed(core.model.norm, x)
    return read_logits(core.lm_head, hidden.view(line.rows, -1, hidden.shape[-1]), vocabulary)


@dataclass(frozen=True)
class QueryView:
    """How a block of queries stands and what it sees.

    Attributes:
        cos, sin: of the rotary embedding at the queries' positions, (..., D / 2).
        mask: 0 where a key is seen and -inf where not, (1 or B * K, G * queries, keys).
    """

    cos: Tensor
    sin: Tensor
    mask: Tensor


@dataclass(frozen=True)
class AttentionPlan:
    """Those of the prefix, of the grid, and of the columns that are read."""

    prefix: QueryView
    grid: QueryView
    reads: QueryView

    @classmethod
    def of(cls, core: Any, line: PackedBatch, x: Tensor) -> AttentionPlan:
        """All three, once for all layers; ``x`` gives data type and device."""
        heads = core.config.num_key_value_heads
        groups = core.config.num_attention_heads // heads
        places = torch.arange(line.prefix + line.width, device=x.device)
        cos, sin = (table[0, :, : table.shape[-1] // 2] for table in core.model.rotary_emb(x, places[None]))
        causal = (places[: line.prefix] > places[: line.prefix, None])[None]
        row = torch.arange(line.rows, device=x.device)[:, None]
        positions = line.positions.expand(line.rows, -1)[row, line.columns]
        hidden = line.hidden.expand(line.rows, -1, -1)[row, line.columns]

        def view(at: Tensor, hidden: Tensor) -> QueryView:
            mask = torch.zeros(hidden.shape, dtype=x.dtype, device=x.device).masked_fill_(hidden, -torch.inf)
            mask = mask.repeat(1, groups, 1)
            if len(mask) > 1:
                mask = mask.repeat_interleave(heads, dim=0)
            return QueryView(cos[at], sin[at], mask)

        return cls(view(places[: line.prefix], causal), view(line.positions, line.hidden), view(positions, hidden))


def _layer(
    layer: Any,
    x: Tensor,
    line: PackedBatch,
    views: AttentionPlan,
    known: tuple[Tensor, Tensor] | None = None,
    reads: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """One decoder layer, (M, H) to (M, H), and the keys and values (B, K, P + S, D) that it attended to.

    ``known`` are those of the prefix where the line does not carry it; with ``reads`` (B * (1 + N),) only those tokens
    come out.
    """
    attention = layer.self_attn
    width = attention.head_dim
    h = _normed(layer.input_layernorm, x)
    prefix_keys, keys = line.split(_heads(adapted_linear(attention.k_proj, h), width))
    prefix_values, values = line.split(_heads(adapted_linear(attention.v_proj, h), width))
    if known is None:
        prefix_keys = RotaryEmbedding.apply(prefix_keys, views.prefix.cos, views.prefix.sin)  # (1, K, P, D)
        prefix_values = prefix_values.transpose(1, 2)
    else:
        prefix_keys, prefix_values = known
    keys = RotaryEmbedding.apply(keys, views.grid.cos, views.grid.sin)  # (B, K, S, D)
    keys = torch.cat([prefix_keys.expand(line.rows, -1, -1, -1), keys], dim=2)  # (B, K, P + S, D)
    values = torch.cat([prefix_values.expand(line.rows, -1, -1, -1), values.transpose(1, 2)], dim=2)
    if reads is None:
        prefix_queries, queries = line.split(_heads(adapted_linear(attention.q_proj, h), width))
        before = prefix_queries.flatten(2)
        if line.carried:
            before = _attend(prefix_queries, views.prefix, prefix_keys, prefix_values)
        mixed = line.join(before, _attend(queries, views.grid, keys, values))
    else:
        x, h = GatherRows.apply(x, reads), GatherRows.apply(h, reads)
        queries = _heads(adapted_linear(attention.q_proj, h), width).unflatten(0, (line.rows, -1))
        mixed = _attend(queries, views.reads, keys, values).flatten(0, 1)
    x = x + adapted_linear(attention.o_proj, mixed)
    h = _normed(layer.post_attention_layernorm, x)
    inner = SwiGlu.apply(adapted_linear(layer.mlp.gate_proj, h), adapted_linear(layer.mlp.up_proj, h))
    return x + adapted_linear(layer.mlp.down_proj, inner), keys, values


def _attend(queries: Tensor, view: QueryView, keys: Tensor, values: Tensor) -> Tensor:
    """Attention of queries (B, S, K * G, D), not yet turned, to keys and values (B, K, L, D); (B, S, K * G * D)."""
    rows, count, heads, width = queries.shape
    queries = RotaryEmbedding.apply(queries, view.cos, view.sin)  # (B, K * G, S, D)
    # The queries of a group share their keys: one product for all of them.
    if count >= FUSED_FROM and not torch.is_grad_enabled():
        grouped = queries.view(rows, keys.shape[1], -1, width)
        mask = view.mask.unflatten(0, (-1, keys.shape[1] if len(view.mask) > 1 else 1))
        mixed = F.scaled_dot_product_attention(grouped, keys, values, attn_mask=mask)
        return mixed.reshape(rows, heads, count, width).transpose(1, 2).flatten(2)
    queries = queries.view(rows * keys.shape[1], -1, width)  # (B * K, G * S, D)
    scores = torch.baddbmm(view.mask, queries, keys.flatten(0, 1).mT, alpha=width**-0.5)
    mixed = scores.softmax(dim=-1) @ values.flatten(0, 1)
    return mixed.view(rows, heads, count, width).transpose(1, 2).flatten(2)


def _heads(x: Tensor, width: int) -> Tensor:
    heads: Tensor = x.unflatten(-1, (-1, width))
    return heads


def _normed(norm: Any, x: Tensor) -> Tensor:
    normed: Tensor = RmsNorm.apply(x, norm.weight, norm.variance_epsilon)
    return normed
