"""Mistral (Mistral 7B, Lite-Oute)."""

from transformers import MistralForCausalLM
from transformers.models.mistral.modeling_mistral import MistralRMSNorm

from whinchat.models.packed.architecture import PackedArchitecture


class MistralArchitecture(PackedArchitecture):
    """Mistral, which differs from Llama by its sliding window alone.

    The window needs no code here: ``Engine.build`` refuses a model whose window is shorter than a prompt may be, so
    every token lies within the window of every other.
    """

    model_class = MistralForCausalLM
    norm_class = MistralRMSNorm
