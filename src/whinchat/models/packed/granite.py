"""Granite (Granite 3.x, dense; Granite 4 H has recurrent layers and other classes)."""

from typing import Any

import torch
from torch import Tensor
from transformers import GraniteForCausalLM
from transformers.models.granite.modeling_granite import GraniteRMSNorm

from whinchat.models.packed.architecture import PackedArchitecture


class GraniteArchitecture(PackedArchitecture):
    """Granite: multipliers for embeddings, attention (as its scale) and residual stream, and a divisor for logits."""

    model_class = GraniteForCausalLM
    norm_class = GraniteRMSNorm

    def embed(self, model: Any, tokens: Tensor) -> Tensor:
        """Return the scaled embeddings, (M, H), of ``tokens`` (M,)."""
        return torch.mul(super().embed(model, tokens), model.model.embedding_multiplier)

    def attention_output(self, layer: Any, mixed: Tensor) -> Tensor:
        """Return the scaled output of attention, (M, H), from the attended values (M, K * G * D)."""
        return torch.mul(super().attention_output(layer, mixed), layer.residual_multiplier)

    def feed_forward(self, layer: Any, x: Tensor) -> Tensor:
        """Return the scaled output of the feed-forward block, (M, H), for the residual stream ``x``, (M, H)."""
        return torch.mul(super().feed_forward(layer, x), layer.residual_multiplier)

    def final_logits(self, model: Any, logits: Tensor) -> Tensor:
        """Return the divided logits, (..., V)."""
        return torch.div(logits, model.config.logits_scaling)
