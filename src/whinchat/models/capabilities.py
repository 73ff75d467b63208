"""What is known of the model types of transformers: which shortcuts are right for them, and what they cannot do.

A shortcut is taken only for the model types listed here, for which tests hold it equal to single unpadded passes
(``tests/models/test_zoo.py``, ``docs/backbones.md``). Every other model goes the way that is right for all.
"""

from typing import Any

import torch
from peft import PeftModel, PeftType

from whinchat.errors import ModelError

# Attention alone carries what came before, so texts may continue from the keys and values of a shared prefix.
_CONTINUES_FROM_CACHE = frozenset({
    "apertus", "arcee", "bitnet", "bloom", "codegen", "cohere", "cohere2", "deepseek_v2", "deepseek_v3",
    "diffllama", "ernie4_5", "exaone4", "falcon", "gemma", "gemma2", "gemma3", "gemma3_text", "gemma3n_text",
    "gemma4_text", "glm", "glm4", "glm4_moe", "gpt2", "gpt_bigcode", "gpt_neo", "gpt_neox", "gpt_oss", "gptj",
    "granite", "granitemoe", "helium", "hunyuan_v1_dense", "jetmoe", "llama", "llama4_text", "ministral",
    "ministral3", "mistral", "mixtral", "mpt", "nemotron", "olmo", "olmo2", "olmo3", "olmoe", "opt",
    "persimmon", "phi", "phi3", "phimoe", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "seed_oss", "smollm3",
    "stablelm", "starcoder2",
})  # fmt: skip

# Positions come from the attention mask, so the prompts of a batch may be padded for ``generate``. The biases of ALiBi
# count columns, padding included.
_GENERATES_PADDED = _CONTINUES_FROM_CACHE - {"bloom", "falcon", "mpt"}

# Model types that no way is right for, and why.
_REFUSED = {
    "rwkv": "transformers rescales its weights during evaluation, so whatever is merged or saved afterwards is wrong",
}

# Rotary embeddings whose angles change once a prompt is longer than the model's original length.
_LENGTH_DEPENDENT_ROPE = ("dynamic", "longrope")


def continues_from_cache(model: Any) -> bool:
    """Return whether the model continues exactly from cached keys and values of a prefix."""
    return model.config.model_type in _CONTINUES_FROM_CACHE and adapts_tokens_alone(model)


def generates_padded(model: Any, longest: int) -> bool:
    """Return whether ``generate`` answers prompts of different lengths in one batch exactly.

    Args:
        model: a causal language model, with or without a PEFT adapter.
        longest: tokens of the longest prompt with its answer.
    """
    windows = _windows(model.config)
    return (
        model.config.model_type in _GENERATES_PADDED
        and adapts_tokens_alone(model)
        # A window counts columns, padding included.
        and all(longest <= window for window in windows)
    )


def adapts_tokens_alone(model: Any) -> bool:
    """Return whether every adapter is LoRA or DoRA, which change each token's products without regard to the others."""
    return not isinstance(model, PeftModel) or all(
        config.peft_type == PeftType.LORA and getattr(config, "alora_invocation_tokens", None) is None
        for config in model.peft_config.values()
    )


def position_limit(model: Any) -> int | None:
    """Return how many tokens the model's positions are made for; None where their number has no limit."""
    config = model.config.get_text_config(decoder=True)
    parameters = getattr(config, "rope_parameters", None) or {}
    kinds = parameters.values() if all(isinstance(value, dict) for value in parameters.values()) else (parameters,)
    limit: int | None = getattr(config, "max_position_embeddings", None)
    for rope in filter(None, kinds):
        if rope.get("rope_type") not in _LENGTH_DEPENDENT_ROPE:
            limit = None
        else:
            limit = rope.get("original_max_position_embeddings") or limit
            break
    return limit or None


def check_length(model: Any, longest: int, nodes: int) -> None:
    """Check that the model computes a prompt's logits regardless of the other prompts of a batch.

    Args:
        model: a causal language model.
        longest: ``backbone.max_prompt_tokens``.
        nodes: answer tokens after a prompt.

    Raises:
        ModelError: the longest prompt with its answer exceeds the lengths that the model's positions are made for.
    """
    limit = position_limit(model)
    if limit and longest + nodes > limit:
        raise ModelError(
            f"backbone.max_prompt_tokens: {longest} reaches past the {limit} positions that this model was made for; "
            f"set backbone.max_prompt_tokens to {limit - nodes} or less"
        )


def check_known_faults(model: Any) -> None:
    """Check that the model is none that is known to be wrong in whinchat.

    Raises:
        ModelError: it is.
    """
    if reason := _REFUSED.get(model.config.model_type):
        raise ModelError(f"{type(model).__name__}: is not supported: {reason}; choose another model")
    if getattr(model.config, "alibi", False) and getattr(model.config, "_attn_implementation", None) == "eager":
        raise ModelError(
            f"{type(model).__name__}: transformers counts ALiBi's bias twice in eager attention; set "
            "backbone.attn_implementation=sdpa"
        )


def check_causal(model: Any) -> None:
    """Check that later tokens change no earlier logits, as padding at the end requires; run a model that is not known.

    Raises:
        ModelError: the model is not causal, or known to be wrong in whinchat.
    """
    check_known_faults(model)
    if model.config.model_type in _CONTINUES_FROM_CACHE:
        return
    weight = model.get_input_embeddings().weight
    ids = torch.arange(1, 9, device=weight.device)[None] % model.config.get_text_config(decoder=True).vocab_size
    with torch.inference_mode():
        short = model(input_ids=ids[:, :4], use_cache=False).logits.float()
        long = model(input_ids=ids, use_cache=False).logits[:, :4].float()
    rounding = 1e-3 if weight.dtype == torch.float32 else 0.05
    if (short - long).abs().max() > rounding * short.std():
        raise ModelError(
            f"{type(model).__name__}: a token's logits depend on the tokens after it, so this is no causal language "
            "model; choose a chat model"
        )


def _windows(config: Any) -> list[int]:
    """Return the widths of the attention windows that the model has."""
    config = config.get_text_config(decoder=True)
    widths = (getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size", "window_size"))
    return [width for width in widths if width]
