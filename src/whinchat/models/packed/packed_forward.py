"""The packed forward pass: many short texts under one instruction, with the instruction computed once.

B: rows. P: tokens of the shared prefix. N: answer nodes. S: longest rest of a prompt with its nodes. M: tokens in all.
H: width of the model. K: key heads. G: query heads for each key head. D: width of a head. V: vocabulary.

Prefix and rows form one packed sequence of M tokens. Every layer but attention works on that sequence, so the prefix is
computed once and there is hardly any padding. For attention the rows become a grid (B, S). The last layer computes only
the tokens whose logits are read.
"""

from dataclasses import dataclass
from typing import Any, Self

import torch
from peft import PeftModel
from torch import Tensor, nn

from whinchat.models.device import DevicePlan
from whinchat.models.lm_head import read_logits
from whinchat.models.packed.architecture import PackedArchitecture
from whinchat.models.packed.architecture_registry import packed_architecture_of
from whinchat.models.packed.attention import AttentionPlan, attend
from whinchat.models.packed.autograd import GatherRows, RotaryEmbedding
from whinchat.models.packed.batch import PackedBatch, pack
from whinchat.models.packed.linear import supports_linear
from whinchat.prompts.answer_tree import AnswerTree
from whinchat.prompts.batching import Batch, collate

# PEFT begins the names of LoRA's and DoRA's parameters with it.
ADAPTER_PREFIX = "lora_"


@dataclass(frozen=True)
class PrefixCache:
    """Keys and values of a prefix, computed once for all texts that follow it.

    Valid until a weight changes or another adapter is activated.

    Attributes:
        ids: token ids of the prefix, P of them.
        layers: for each layer its keys, rotated, and its values, both (1, K, P, D).
    """

    ids: tuple[int, ...]
    layers: tuple[tuple[Tensor, Tensor], ...]


def is_packable(model: nn.Module, plan: DevicePlan) -> bool:
    """Return whether the packed forward pass computes what ``model`` does; every other model goes the plain way.

    True only of what is known to be right: a registered architecture that supports the configuration, known classes of
    norms and linear layers, weights in the data type of the products and on one device, no fused attention kernel asked
    for, and no gradient for weights other than an adapter's.
    """
    core = _without_peft(model)
    architecture = packed_architecture_of(core)
    return (
        architecture is not None
        and plan.attn_implementation == "eager"
        and architecture.supports(core)
        and type(core.model.embed_tokens) is nn.Embedding
        and core.model.embed_tokens.weight.dtype == plan.torch_dtype
        and len(set(getattr(core, "hf_device_map", {}).values())) <= 1
        and all(type(norm) is architecture.norm_class for norm in architecture.norms(core))
        and all(supports_linear(layer) for layer in architecture.projections(core))
        and not (torch.is_grad_enabled() and _trains_base(core))
    )


def packed_logits(
    model: nn.Module,
    batch: Batch,
    tree: AnswerTree | None,
    prefix: PrefixCache | None = None,
    vocabulary: tuple[int, ...] | None = None,
) -> Tensor:
    """Compute the logits after the prompt and after each answer node.

    Args:
        model: a causal language model for which ``is_packable`` is true.
        batch: prompts with answer tokens.
        tree: how the answer tokens attend to each other; None for a chain, where each follows the one before.
        prefix: the cache of ``batch.prefix``; None to compute the prefix with the batch.
        vocabulary: token ids to compute logits for; None for the whole vocabulary.

    Returns:
        Logits, (B, 1 + N, V), or (B, 1 + N, len(vocabulary)).
    """
    forward, x = _PackedForward.start(model, pack(batch, tree, prefix_cached=prefix is not None))
    layers = forward.core.model.layers
    for index, layer in enumerate(layers):
        cached = None if prefix is None else prefix.layers[index]
        read_indices = forward.batch.read_indices() if index == len(layers) - 1 else None
        x, _, _ = forward.decoder_layer(layer, x, cached, read_indices)
    hidden = forward.architecture.final_norm(forward.core, x)  # (B * (1 + N), H)
    return read_logits(forward.core.lm_head, hidden.view(forward.batch.rows, -1, hidden.shape[-1]), vocabulary)


def read_prefix(model: nn.Module, ids: tuple[int, ...], device: torch.device) -> PrefixCache:
    """Compute the keys and values of a prefix.

    Args:
        model: a causal language model for which ``is_packable`` is true.
        ids: token ids of the prefix.
        device: the device of the model.
    """
    forward, x = _PackedForward.start(model, pack(collate([ids], [()]).to(device), None))
    layers = []
    for layer in forward.core.model.layers:
        x, keys, values = forward.decoder_layer(layer, x)
        layers.append((keys, values))
    return PrefixCache(ids, tuple(layers))


@dataclass(frozen=True)
class _PackedForward:
    """One forward pass: the transformers model, how its family computes, the batch, and its attention."""

    core: Any
    architecture: PackedArchitecture
    batch: PackedBatch
    plan: AttentionPlan

    @classmethod
    def start(cls, model: nn.Module, batch: PackedBatch) -> tuple[Self, Tensor]:
        """Return the pass and the input of its first layer, (M, H)."""
        core = _without_peft(model)
        architecture = packed_architecture_of(core)
        assert architecture is not None, f"{type(core).__name__} is not packable"
        x = architecture.embed(core, batch.tokens)
        positions = torch.arange(batch.prefix_length + batch.width, device=x.device)
        cos, sin = architecture.rotary_angles(core, x, positions)
        key_heads = core.config.num_key_value_heads
        plan = AttentionPlan.build(batch, cos, sin, key_heads, core.config.num_attention_heads // key_heads)
        return cls(core, architecture, batch, plan), x

    def decoder_layer(
        self, layer: Any, x: Tensor, cached: tuple[Tensor, Tensor] | None = None, read_indices: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Compute one decoder layer for the residual stream ``x``, (M, H).

        ``cached`` are keys and values of the prefix, (1, K, P, D), where ``batch.tokens`` leaves the prefix out. With
        ``read_indices``, (B * (1 + N),), only these tokens are computed.

        Returns:
            The residual stream, (M, H) or (B * (1 + N), H), and the keys and values of all rows, (B, K, P + S, D).
        """
        architecture, batch, plan = self.architecture, self.batch, self.plan
        h = architecture.attention_input(layer, x)
        prefix_keys, prefix_values, keys, values = self._keys_and_values(layer, h, cached)
        if read_indices is None:
            prefix_queries, queries = batch.split(architecture.queries(layer, h))
            prefix_mixed = prefix_queries.flatten(2)
            if batch.prefix_tokens:
                prefix_mixed = attend(prefix_queries, plan.prefix, prefix_keys, prefix_values)
            mixed = batch.join(prefix_mixed, attend(queries, plan.grid, keys, values))
        else:
            x, h = GatherRows.apply(x, read_indices), GatherRows.apply(h, read_indices)
            queries = architecture.queries(layer, h).unflatten(0, (batch.rows, -1))
            mixed = attend(queries, plan.reads, keys, values).flatten(0, 1)
        x = x + architecture.attention_output(layer, mixed)
        x = x + architecture.feed_forward(layer, x)
        return x, keys, values

    def _keys_and_values(
        self, layer: Any, h: Tensor, cached: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return keys (rotated) and values of the prefix, (1, K, P, D), and of prefix and grid, (B, K, P + S, D)."""
        batch, plan = self.batch, self.plan
        prefix_keys, keys = batch.split(self.architecture.keys(layer, h))
        prefix_values, values = batch.split(self.architecture.values(layer, h))
        if cached is None:
            prefix_keys = RotaryEmbedding.apply(prefix_keys, plan.prefix.cos, plan.prefix.sin)
            prefix_values = prefix_values.transpose(1, 2)
        else:
            prefix_keys, prefix_values = cached
        keys = RotaryEmbedding.apply(keys, plan.grid.cos, plan.grid.sin)  # (B, K, S, D)
        keys = torch.cat([prefix_keys.expand(batch.rows, -1, -1, -1), keys], dim=2)
        values = torch.cat([prefix_values.expand(batch.rows, -1, -1, -1), values.transpose(1, 2)], dim=2)
        return prefix_keys, prefix_values, keys, values


def _without_peft(model: nn.Module) -> Any:
    """Return the transformers model, unwrapped from PEFT's where it carries an adapter."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def _trains_base(core: nn.Module) -> bool:
    """Return whether weights other than an adapter's train: the hand-written backward passes give these no gradient."""
    return any(weight.requires_grad and ADAPTER_PREFIX not in name for name, weight in core.named_parameters())
