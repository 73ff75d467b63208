"""Gemma (the first generation: Gemma 2B and 7B, CodeGemma)."""

from typing import Any

from torch import Tensor
from transformers import GemmaForCausalLM
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm, GemmaTextScaledWordEmbedding

from whinchat.models.packed.architecture import PackedArchitecture
from whinchat.models.packed.autograd import GeGlu, RmsNorm


class GemmaArchitecture(PackedArchitecture):
    """Gemma, which scales its embeddings, gates by GELU and adds 1 to the weights of its norms."""

    model_class = GemmaForCausalLM
    norm_class = GemmaRMSNorm
    embedding_class = GemmaTextScaledWordEmbedding
    gate = GeGlu

    def supports(self, model: Any) -> bool:
        """Return whether attention is causal, besides what Llama's configuration must be."""
        return super().supports(model) and not self.decoder(model).config.use_bidirectional_attention

    def normalize(self, norm: Any, x: Tensor) -> Tensor:
        """Apply an RMS norm over the last dimension of ``x``, with ``1 + weight``."""
        return RmsNorm.apply(x, 1 + norm.weight.float(), norm.eps)
