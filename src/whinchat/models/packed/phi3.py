"""Phi-3 (Phi-3, Phi-3.5, Phi-4, Phi-4-mini; not the multimodal and mixture-of-experts models)."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from transformers import Phi3ForCausalLM
from transformers.models.phi3.modeling_phi3 import Phi3RMSNorm

from whinchat.errors import ModelError
from whinchat.models.packed.architecture import POSITION_ONLY_ROPE, PackedArchitecture, rope_types, split_heads
from whinchat.models.packed.attention import AttentionKind
from whinchat.models.packed.linear import project


class Phi3Architecture(PackedArchitecture):
    """Phi-3: one projection for queries, keys and values, one for gate and up, a window, and angles by longrope.

    The angles of longrope depend on the position alone as long as no prompt exceeds the model's original length, which
    ``Engine.build`` checks.
    """

    model_class = Phi3ForCausalLM
    norm_class = Phi3RMSNorm
    rope_kinds = POSITION_ONLY_ROPE | {"longrope"}

    def supports(self, model: Any) -> bool:
        """Return whether no dropout but the adapter's is asked for, besides what Llama's configuration must be."""
        return super().supports(model) and not model.config.resid_pdrop and not model.config.embd_pdrop

    def projections(self, model: Any) -> Iterator[nn.Module]:
        """Yield the fused projections."""
        for layer in model.model.layers:
            yield from (layer.self_attn.qkv_proj, layer.self_attn.o_proj)
            yield from (layer.mlp.gate_up_proj, layer.mlp.down_proj)

    def attention_kind(self, layer: Any) -> AttentionKind:
        """Return how ``layer`` attends: all layers have the same window."""
        return AttentionKind(layer.self_attn.scaling, window=layer.self_attn.config.sliding_window)

    def rotary_angles(self, model: Any, kind: AttentionKind, x: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return cos and sin at ``positions`` (L,), both (L, R / 2).

        Raises:
            ModelError: prompts reach past the length up to which the angles of longrope depend on the position alone.
        """
        original = model.config.rope_parameters.get("original_max_position_embeddings")
        if rope_types(model.model.rotary_emb) == {"longrope"} and len(positions) > original:
            raise ModelError(
                f"{len(positions)} tokens reach past the {original} positions that this model was made for; set "
                "backbone.max_prompt_tokens to fewer"
            )
        return super().rotary_angles(model, kind, x, positions)

    def heads(self, layer: Any, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries (M, K * G, D), keys and values (M, K, D) of ``h`` (M, H), from one product."""
        attention = layer.self_attn
        count = attention.num_key_value_heads
        heads = split_heads(project(attention.qkv_proj, h), attention.head_dim)
        queries, keys, values = heads.split([count * attention.num_key_value_groups, count, count], dim=1)
        return queries, keys, values

    def queries(self, layer: Any, h: Tensor) -> Tensor:
        """Return the queries of ``h`` (M, H), (M, K * G, D)."""
        return self.heads(layer, h)[0]

    def keys_and_values(self, layer: Any, h: Tensor) -> tuple[Tensor, Tensor]:
        """Return the keys and values of ``h`` (M, H), (M, K, D) each."""
        _, keys, values = self.heads(layer, h)
        return keys, values

    def gated_projection(self, layer: Any, h: Tensor) -> Tensor:
        """Return the output of the feed-forward block without its norm, (M, H), for ``h`` (M, H)."""
        gate, up = project(layer.mlp.gate_up_proj, h).chunk(2, dim=-1)  # (M, I)
        return project(layer.mlp.down_proj, self.gate.apply(gate, up))
