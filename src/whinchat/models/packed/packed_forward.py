"""The packed forward pass: many short texts under one instruction, with the instruction computed once.

B: rows. P: tokens of the shared prefix. N: answer nodes. S: longest rest of a prompt with its nodes. M: tokens in all.
C: columns of logits that are read. H: width of the model. K: key heads. G: query heads for each key head. D: width of a
head. V: vocabulary.

Prefix and rows form one packed sequence of M tokens. Every layer but attention works on that sequence, so the prefix is
computed once and there is hardly any padding. For attention the rows become a grid (B, S). The last layer computes only
the tokens whose logits are read.
"""

from dataclasses import dataclass
from typing import Any, Self

import torch
from peft import PeftModel
from torch import Tensor, nn

from whinchat.models.capabilities import adapts_tokens_alone
from whinchat.models.device import DevicePlan
from whinchat.models.lm_head import FloatHead, read_logits
from whinchat.models.packed.architecture import PackedArchitecture
from whinchat.models.packed.architecture_registry import packed_architecture_of
from whinchat.models.packed.attention import AttentionPlan, attend
from whinchat.models.packed.autograd import GatherRows, RotaryEmbedding
from whinchat.models.packed.batch import PackedBatch, pack
from whinchat.models.packed.linear import supports_linear
from whinchat.models.packed.merged_weights import merge_weights
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

    True only of what is known to be right: a registered architecture that supports the configuration, no adapters but
    LoRA and DoRA, known classes of norms, linear layers and output layer, weights in the data type of the products and
    on one device, no fused attention kernel asked for on a CPU, and no gradient for weights other than an adapter's.
    """
    core = _without_peft(model)
    architecture = packed_architecture_of(core)
    return (
        architecture is not None
        and adapts_tokens_alone(model)
        and (plan.device != "cpu" or plan.attn_implementation == "eager")
        and architecture.supports(core)
        and type(architecture.decoder(core).embed_tokens) is architecture.embedding_class
        and architecture.decoder(core).embed_tokens.weight.dtype == plan.torch_dtype
        and len(set(getattr(core, "hf_device_map", {}).values())) <= 1
        and type(core.lm_head) in (nn.Linear, FloatHead)
        and all(type(norm) is architecture.norm_class for norm in architecture.norms(core))
        and all(supports_linear(layer) for layer in architecture.projections(core))
        and not (torch.is_grad_enabled() and _trains_base(core))
    )


def keep_merged_weights(model: nn.Module, plan: DevicePlan) -> None:
    """Let the packed forward pass multiply with merged weights where it computes no gradients; see ``merge_weights``.

    Call this for a model that only answers, because merged weights are valid until a weight changes. Adapters can still
    be disabled and switched. Models that are not packable, and models on accelerators, stay as they are.
    """
    if plan.device == "cpu" and is_packable(model, plan):
        core = _without_peft(model)
        architecture = packed_architecture_of(core)
        assert architecture is not None, f"{type(core).__name__} is not packable"
        merge_weights(architecture.projections(core), plan.torch_dtype)


def packed_logits(
    model: nn.Module,
    batch: Batch,
    tree: AnswerTree | None,
    prefix: PrefixCache | None = None,
    vocabulary: tuple[int, ...] | None = None,
) -> Tensor:
    """Compute the logits after the nodes that ``tree`` reads.

    Args:
        model: a causal language model for which ``is_packable`` is true.
        batch: prompts with answer tokens.
        tree: how the answer tokens attend to each other, and where logits are read; None for a chain, where each
            follows the one before, and all are read.
        prefix: the cache of ``batch.prefix``; None to compute the prefix with the batch.
        vocabulary: token ids to compute logits for; None for the whole vocabulary.

    Returns:
        Logits, (B, C, V), or (B, C, len(vocabulary)); C is 1 + N without a tree.
    """
    forward, x = _PackedForward.start(model, pack(batch, tree, prefix_cached=prefix is not None))
    architecture, core, rows = forward.architecture, forward.core, forward.batch.rows
    cached = [None] * len(forward.plans) if prefix is None else prefix.layers
    *layers, last_layer = zip(architecture.decoder(core).layers, forward.plans, cached, strict=True)
    for layer in layers:
        x, _, _ = forward.decoder_layer(x, *layer)
    hidden = architecture.final_norm(core, forward.last_layer(x, *last_layer))  # (B * C, H)
    return architecture.final_logits(
        core, read_logits(core.lm_head, hidden.view(rows, -1, hidden.shape[-1]), vocabulary)
    )


def read_prefix(model: nn.Module, ids: tuple[int, ...], device: torch.device) -> PrefixCache:
    """Compute the keys and values of a prefix.

    Args:
        model: a causal language model for which ``is_packable`` is true.
        ids: token ids of the prefix.
        device: the device of the model.
    """
    forward, x = _PackedForward.start(model, pack(collate([ids], [()]).to(device), None))
    layers = []
    for layer, plan in zip(forward.architecture.decoder(forward.core).layers, forward.plans, strict=True):
        x, keys, values = forward.decoder_layer(x, layer, plan)
        layers.append((keys, values))
    return PrefixCache(ids, tuple(layers))


def packed_states(model: nn.Module, batch: Batch) -> tuple[Tensor, PackedBatch]:
    """Compute the states of all tokens of a batch, as ``packed_head`` takes them.

    Args:
        model: a causal language model for which ``is_packable`` is true.
        batch: whole sequences, without answer nodes.

    Returns:
        The states, (M, H), and the packed batch, which says to which token each belongs.
    """
    forward, x = _PackedForward.start(model, pack(batch, None))
    for layer, plan in zip(forward.architecture.decoder(forward.core).layers, forward.plans, strict=True):
        x, _, _ = forward.decoder_layer(x, layer, plan)
    return forward.architecture.final_norm(forward.core, x), forward.batch


def packed_head(model: nn.Module, hidden: Tensor) -> Tensor:
    """Compute the logits over the whole vocabulary, (..., V), from the states of ``packed_states``, (..., H)."""
    core = _without_peft(model)
    architecture = packed_architecture_of(core)
    assert architecture is not None, f"{type(core).__name__} is not packable"
    return architecture.final_logits(core, read_logits(core.lm_head, hidden, None))


@dataclass(frozen=True)
class _PackedForward:
    """One forward pass: the transformers model, how its family computes, the batch, and the attention of each layer."""

    core: Any
    architecture: PackedArchitecture
    batch: PackedBatch
    plans: tuple[AttentionPlan, ...]

    @classmethod
    def start(cls, model: nn.Module, batch: PackedBatch) -> tuple[Self, Tensor]:
        """Return the pass and the input of its first layer, (M, H)."""
        core = _without_peft(model)
        architecture = packed_architecture_of(core)
        assert architecture is not None, f"{type(core).__name__} is not packable"
        decoder = architecture.decoder(core)
        x = architecture.embed(core, batch.tokens)
        length, key_heads = batch.length, decoder.config.num_key_value_heads
        heads = key_heads, decoder.config.num_attention_heads // key_heads
        positions = torch.arange(length, device=x.device)
        kinds = [architecture.attention_kind(layer).within(length) for layer in decoder.layers]
        plans = {}
        for kind in dict.fromkeys(kinds):
            angles = architecture.rotary_angles(core, kind, x, positions)
            scales = architecture.query_scales(core, x, positions)
            plans[kind] = AttentionPlan.build(batch, kind, angles, scales, heads, x.dtype)
        return cls(core, architecture, batch, tuple(plans[kind] for kind in kinds)), x

    def decoder_layer(
        self, x: Tensor, layer: Any, plan: AttentionPlan, cached: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Compute one decoder layer for the residual stream ``x``, (M, H).

        ``cached`` are keys and values of the prefix, (1, K, P, D), where ``batch.tokens`` leaves the prefix out.

        Returns:
            The residual stream, (M, H), and the keys and values of all rows, (B, K, P + S, D).
        """
        batch = self.batch
        queries, keys, values = self.architecture.heads(layer, self.architecture.attention_input(layer, x))
        prefix_keys, prefix_values, keys, values = self._after_prefix(plan, keys, values, cached)
        prefix_queries, queries = batch.split(queries)
        prefix_mixed = prefix_queries.flatten(2)
        if batch.prefix_tokens:
            prefix_mixed = attend(plan.kind, plan.prefix, prefix_queries, prefix_keys, prefix_values)
        mixed = batch.join(prefix_mixed, attend(plan.kind, plan.grid, queries, keys, values))
        return self._add_outputs(x, layer, mixed), keys, values

    def last_layer(self, x: Tensor, layer: Any, plan: AttentionPlan, cached: tuple[Tensor, Tensor] | None) -> Tensor:
        """Compute the last decoder layer for ``x``, (M, H), at the tokens whose logits are read, (B * C, H)."""
        h = self.architecture.attention_input(layer, x)
        _, _, keys, values = self._after_prefix(plan, *self.architecture.keys_and_values(layer, h), cached)
        read_indices = self.batch.read_indices()
        x, h = GatherRows.apply(x, read_indices), GatherRows.apply(h, read_indices)
        queries = self.architecture.queries(layer, h).unflatten(0, (self.batch.rows, -1))
        return self._add_outputs(x, layer, attend(plan.kind, plan.reads, queries, keys, values).flatten(0, 1))

    def _after_prefix(
        self, plan: AttentionPlan, keys: Tensor, values: Tensor, cached: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return keys (rotated) and values of the prefix, (1, K, P, D), and of prefix and grid, (B, K, P + S, D)."""
        batch = self.batch
        prefix_keys, keys = batch.split(keys)
        prefix_values, values = batch.split(values)
        if cached is None:
            prefix_keys = RotaryEmbedding.apply(prefix_keys, plan.prefix.cos, plan.prefix.sin)
            prefix_values = prefix_values.transpose(1, 2)
        else:
            prefix_keys, prefix_values = cached
        keys = RotaryEmbedding.apply(keys, plan.grid.cos, plan.grid.sin)  # (B, K, S, D)
        keys = torch.cat([prefix_keys.expand(batch.rows, -1, -1, -1), keys], dim=2)
        values = torch.cat([prefix_values.expand(batch.rows, -1, -1, -1), values.transpose(1, 2)], dim=2)
        return prefix_keys, prefix_values, keys, values

    def _add_outputs(self, x: Tensor, layer: Any, mixed: Tensor) -> Tensor:
        """Return the residual stream ``x`` with the outputs of attention and of the feed-forward block, (M, H)."""
        x = x + self.architecture.attention_output(layer, mixed)
        return x + self.architecture.feed_forward(layer, x)


def _without_peft(model: nn.Module) -> Any:
    """Return the transformers model, unwrapped from PEFT's where it carries an adapter."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def _trains_base(core: nn.Module) -> bool:
    """Return whether weights other than an adapter's train: the hand-written backward passes give these no gradient."""
    return any(weight.requires_grad and ADAPTER_PREFIX not in name for name, weight in core.named_parameters())
