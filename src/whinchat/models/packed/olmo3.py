"""OLMo 3."""

from dataclasses import replace
from typing import Any

from transformers import Olmo3ForCausalLM
from transformers.models.olmo3.modeling_olmo3 import Olmo3RMSNorm

from whinchat.models.packed.architecture import WindowedArchitecture, layer_type
from whinchat.models.packed.attention import AttentionKind
from whinchat.models.packed.olmo2 import Olmo2Architecture


class Olmo3Architecture(WindowedArchitecture, Olmo2Architecture):
    """OLMo 3: OLMo 2 with windows, and a rotary embedding for each type of layer."""

    model_class = Olmo3ForCausalLM
    norm_class = Olmo3RMSNorm

    def attention_kind(self, layer: Any) -> AttentionKind:
        """Return how ``layer`` attends: each type of layer has a rotary embedding."""
        return replace(super().attention_kind(layer), rotary=layer_type(layer))
