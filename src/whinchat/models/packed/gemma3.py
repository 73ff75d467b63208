"""Gemma 3: the text models (270M, 1B) and the text model of those that also read images (4B and larger)."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from transformers import Gemma3ForCausalLM, Gemma3ForConditionalGeneration
from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm, Gemma3TextModel, Gemma3TextScaledWordEmbedding

from whinchat.models.packed.architecture import layer_type
from whinchat.models.packed.attention import AttentionKind
from whinchat.models.packed.gemma2 import Gemma2Architecture


class Gemma3Architecture(Gemma2Architecture):
    """Gemma 3: Gemma 2 with normalized queries and keys, another RoPE in windowed layers, and no soft cap of scores."""

    model_class = Gemma3ForCausalLM
    norm_class = Gemma3RMSNorm
    embedding_class = Gemma3TextScaledWordEmbedding

    def norms(self, model: Any) -> Iterator[nn.Module]:
        """Yield the norms of Gemma 2, and those of queries and keys."""
        yield from super().norms(model)
        for layer in self.decoder(model).layers:
            yield from (layer.self_attn.q_norm, layer.self_attn.k_norm)

    def attention_kind(self, layer: Any) -> AttentionKind:
        """Return how ``layer`` attends: each type of layer has a rotary embedding."""
        return replace(super().attention_kind(layer), rotary=layer_type(layer), soft_cap=None)

    def queries(self, layer: Any, h: Tensor) -> Tensor:
        """Return the normalized queries of ``h`` (M, H), (M, K * G, D)."""
        return self.normalize(layer.self_attn.q_norm, super().queries(layer, h))

    def keys(self, layer: Any, h: Tensor) -> Tensor:
        """Return the normalized keys of ``h`` (M, H), (M, K, D)."""
        return self.normalize(layer.self_attn.k_norm, super().keys(layer, h))


class Gemma3WithVisionArchitecture(Gemma3Architecture):
    """The text model of a Gemma 3 that also reads images, on texts alone; its logits have no soft cap."""

    model_class = Gemma3ForConditionalGeneration

    def supports(self, model: Any) -> bool:
        """Return whether the text model is Gemma 3's, of a supported configuration."""
        return type(self.decoder(model)) is Gemma3TextModel and super().supports(model)

    def decoder(self, model: Any) -> Any:
        """Return the text model."""
        return model.model.language_model

    def final_logits(self, model: Any, logits: Tensor) -> Tensor:
        """Return ``logits`` as they are: transformers leaves the soft cap out in this class."""
        return logits
