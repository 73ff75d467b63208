"""Ministral (Ministral 8B of 2024; Ministral 3 has a file of its own)."""

from transformers import MinistralForCausalLM
from transformers.models.ministral.modeling_ministral import MinistralRMSNorm

from whinchat.models.packed.architecture import WindowedArchitecture


class MinistralArchitecture(WindowedArchitecture):
    """Ministral, in which the type of a layer says whether it has a sliding window."""

    model_class = MinistralForCausalLM
    norm_class = MinistralRMSNorm
