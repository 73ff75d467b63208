"""Llama (Llama 2 and 3, TinyLlama, SmolLM2): the architecture that the packed forward pass was written for."""

from transformers import LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from whinchat.models.packed.architecture import PackedArchitecture


class LlamaArchitecture(PackedArchitecture):
    """Llama, for which the defaults of the contract are written."""

    model_class = LlamaForCausalLM
    norm_class = LlamaRMSNorm
