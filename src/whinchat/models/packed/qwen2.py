"""Qwen2 (Qwen2, Qwen2.5, and the distillates of DeepSeek-R1 that are built on Qwen2.5)."""

from transformers import Qwen2ForCausalLM
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm

from whinchat.models.packed.architecture import WindowedArchitecture


class Qwen2Architecture(WindowedArchitecture):
    """Qwen2, whose projections of queries, keys and values have biases, which ``project`` adds."""

    model_class = Qwen2ForCausalLM
    norm_class = Qwen2RMSNorm
