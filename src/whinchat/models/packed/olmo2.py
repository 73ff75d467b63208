"""OLMo 2."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from transformers import Olmo2ForCausalLM
from transformers.models.olmo2.modeling_olmo2 import Olmo2RMSNorm

from whinchat.models.packed.architecture import PackedArchitecture, split_heads
from whinchat.models.packed.autograd import RmsNorm
from whinchat.models.packed.linear import project


class Olmo2Architecture(PackedArchitecture):
    """OLMo 2, which normalizes the outputs of blocks instead of their inputs, and queries and keys over all heads."""

    model_class = Olmo2ForCausalLM
    norm_class = Olmo2RMSNorm

    def norms(self, model: Any) -> Iterator[nn.Module]:
        """Yield the final norm, and four norms of each layer."""
        decoder = self.decoder(model)
        yield decoder.norm
        for layer in decoder.layers:
            yield from (layer.post_attention_layernorm, layer.post_feedforward_layernorm)
            yield from (layer.self_attn.q_norm, layer.self_attn.k_norm)

    def attention_input(self, layer: Any, x: Tensor) -> Tensor:
        """Return the residual stream itself, (M, H)."""
        return x

    def queries(self, layer: Any, h: Tensor) -> Tensor:
        """Return the queries of ``h`` (M, H), normalized over all heads, (M, K * G, D)."""
        attention = layer.self_attn
        return split_heads(self.normalize(attention.q_norm, project(attention.q_proj, h)), attention.head_dim)

    def keys(self, layer: Any, h: Tensor) -> Tensor:
        """Return the keys of ``h`` (M, H), normalized over all heads, (M, K, D)."""
        attention = layer.self_attn
        return split_heads(self.normalize(attention.k_norm, project(attention.k_proj, h)), attention.head_dim)

    def attention_output(self, layer: Any, mixed: Tensor) -> Tensor:
        """Return what attention adds to the residual stream, normalized, (M, H)."""
        return self.normalize(layer.post_attention_layernorm, super().attention_output(layer, mixed))

    def feed_forward(self, layer: Any, x: Tensor) -> Tensor:
        """Return what the feed-forward block adds to the residual stream, normalized, (M, H)."""
        return self.normalize(layer.post_feedforward_layernorm, self.gated_projection(layer, x))

    def normalize(self, norm: Any, x: Tensor) -> Tensor:
        """Apply an RMS norm over the last dimension of ``x``, with the product in float32."""
        return RmsNorm.apply(x, norm.weight.float(), norm.variance_epsilon)
