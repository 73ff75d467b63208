"""Gemma 2."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from transformers import Gemma2ForCausalLM
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm, Gemma2TextScaledWordEmbedding

from whinchat.models.packed.architecture import WindowedArchitecture
from whinchat.models.packed.attention import AttentionKind
from whinchat.models.packed.autograd import SoftCap
from whinchat.models.packed.gemma import GemmaArchitecture


class Gemma2Architecture(WindowedArchitecture, GemmaArchitecture):
    """Gemma 2: Gemma with windows, soft caps of scores and logits, and norms before and after each block."""

    model_class = Gemma2ForCausalLM
    norm_class = Gemma2RMSNorm
    embedding_class = Gemma2TextScaledWordEmbedding

    def activation(self, config: Any) -> str:
        """Return the name of the feed-forward block's activation."""
        name: str = config.hidden_activation
        return name

    def norms(self, model: Any) -> Iterator[nn.Module]:
        """Yield the final norm, and four norms of each layer."""
        yield from super().norms(model)
        for layer in self.decoder(model).layers:
            yield from (layer.pre_feedforward_layernorm, layer.post_feedforward_layernorm)

    def attention_kind(self, layer: Any) -> AttentionKind:
        """Return how ``layer`` attends: with a soft cap, and a window in every other layer."""
        return replace(super().attention_kind(layer), soft_cap=layer.self_attn.attn_logit_softcapping)

    def attention_output(self, layer: Any, mixed: Tensor) -> Tensor:
        """Return what attention adds to the residual stream, normalized, (M, H)."""
        return self.normalize(layer.post_attention_layernorm, super().attention_output(layer, mixed))

    def feed_forward(self, layer: Any, x: Tensor) -> Tensor:
        """Return what the feed-forward block adds to the residual stream, normalized, (M, H)."""
        h = self.normalize(layer.pre_feedforward_layernorm, x)
        return self.normalize(layer.post_feedforward_layernorm, self.gated_projection(layer, h))

    def final_logits(self, model: Any, logits: Tensor) -> Tensor:
        """Return the logits with their soft cap."""
        cap = model.config.final_logit_softcapping
        return logits if cap is None else SoftCap.apply(logits, cap)
