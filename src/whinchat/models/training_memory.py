"""Estimate the memory of training from the shapes of a model, before its weights are downloaded.

B: rows of a micro-batch. P: tokens of the shared prefix. S: tokens of a text. M: tokens in all, P + B * S.
"""

import math
from dataclasses import dataclass
from typing import Any

from torch import nn

from whinchat.models.adapter_targets import linear_layers, matches_target
from whinchat.models.device import DevicePlan
from whinchat.models.packed.packed_forward import ADAPTER_PREFIX
from whinchat.models.parameter_count import configured_model, parameter_size
from whinchat.models.shallow_model import layer_number
from whinchat.recipe.model_config import AdapterConfig, BackboneConfig

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
# NF4: half a byte a weight, and for every 64 weights a scale that is quantized, too (QLoRA, section 3).
_NF4_BYTES = 0.5 + (1 + 4 / 256) / 64
# Python and the libraries before any weight is loaded; measured, see docs/decisions.md.
_RUNTIME_BYTES = 0.66e9
# Weight, gradient and the two moments of Adam for each trainable parameter, float32.
_TRAINABLE_BYTES = 16
# Fitted to measured peaks of models with 30 and 16 layers, and with adapters in 8 (``python -m benchmarks.memory``; see
# docs/decisions.md). Bytes that the heap holds for each byte of activations, because it cannot reuse all freed blocks:
_ACTIVATION_OVERHEAD = 1.25
# Temporary tensors take as much as the saved activations of so many layers.
_TEMPORARY_LAYERS = 4
# What DoRA saves for each byte that LoRA saves.
_DORA_OVERHEAD = 1.1


@dataclass(frozen=True)
class BatchShape:
    """The micro-batch that an estimate is for; see the letters of the module.

    The lengths are those of the 64 longest tweets of TweetEval's sentiment task, cleaned, by SmolLM2's tokenizer.
    """

    rows: int
    prefix: int = 46
    text: int = 64

    @property
    def tokens(self) -> int:
        """M."""
        return self.prefix + self.rows * self.text


def estimate_training_bytes(model: Any, plan: DevicePlan, adapter: AdapterConfig, batch: BatchShape) -> float:
    """Return the estimated peak memory of training an adapter.

    Args:
        model: a causal language model, with or without the adapter; on PyTorch's meta device, no weight is needed.
        plan: device and data types.
        adapter: the adapter; ``target_modules`` that match nothing count nothing.
        batch: the micro-batch.
    """
    linear = {
        name.removesuffix(".base_layer"): layer
        for name, layer in linear_layers(model).items()
        if ADAPTER_PREFIX not in name
    }
    quantized = sum(math.prod(_shape(layer)) for layer in linear.values()) if plan.load_in == "nf4" else 0
    parameters = sum(map(parameter_size, model.parameters()))
    # Beside NF4 weights, embeddings and norms are held in the data type of the products.
    width = _BYTES[plan.compute_dtype if plan.load_in == "nf4" else plan.load_in]
    weight_bytes: float = (parameters - quantized) * width + quantized * _NF4_BYTES
    trainable = sum(adapter.r * sum(_shape(layer)) for name, layer in linear.items() if _is_target(name, adapter))
    layers: int = model.config.get_text_config(decoder=True).num_hidden_layers
    # A backward pass goes through the layers from the lowest adapter on.
    held = layers - min(adapter.layers_to_transform or (0,)) + _TEMPORARY_LAYERS
    saved = _saved_elements(model, linear, batch) * held / layers
    activation_bytes = _ACTIVATION_OVERHEAD * saved * _BYTES[plan.compute_dtype]
    if adapter.method == "dora":
        activation_bytes *= _DORA_OVERHEAD
    # Logits after prompt and answer, their softmax and its gradient, float32.
    logit_bytes = 3 * 2 * batch.rows * int(model.config.get_text_config(decoder=True).vocab_size) * 4
    return _RUNTIME_BYTES + weight_bytes + trainable * _TRAINABLE_BYTES + logit_bytes + activation_bytes


def estimate_for(
    backbone: BackboneConfig, plan: DevicePlan, adapter: AdapterConfig, batch: BatchShape
) -> tuple[int, float] | None:
    """Return parameters and estimated memory of training; None where the configuration is not on this machine.

    Args:
        backbone: the model.
        plan: device and data types.
        adapter: the adapter.
        batch: the micro-batch.
    """
    model = configured_model(backbone.model, backbone.revision, backbone.layers)
    if model is None:
        return None
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return parameters, estimate_training_bytes(model, plan, adapter, batch)


def _saved_elements(model: Any, linear: dict[str, nn.Module], batch: BatchShape) -> float:
    """Return how many numbers the packed pass saves for the backward pass."""
    config = model.config.get_text_config(decoder=True)
    layers, heads = config.num_hidden_layers, getattr(config, "num_attention_heads", 0)
    # The output of every linear layer, and the inputs of attention, of its output layer and of the feed-forward layers.
    outputs = sum(_shape(layer)[0] for layer in linear.values())
    inner = max((_shape(layer)[1] for layer in linear.values()), default=0)
    per_token = outputs + layers * (3 * config.hidden_size + inner)
    keys = batch.prefix + batch.text
    width = _largest(config, "head_dim") or config.hidden_size // max(1, heads)
    key_heads = _largest(config, "num_key_value_heads") or heads
    per_row = layers * (heads * batch.text * keys + 2 * key_heads * width * keys)
    return float(batch.tokens * per_token + batch.rows * per_row)


def _largest(config: Any, name: str) -> int:
    """Return a size of the attention heads; the largest where transformers keeps one for each layer."""
    try:
        return getattr(config, name, None) or 0
    except RuntimeError:  # AmbiguousGlobalPerLayerAttributeError: Gemma 4
        return max(getattr(layer, name, None) or 0 for layer in config.per_layer_config)


def _shape(layer: Any) -> tuple[int, int]:
    """Return outputs and inputs of a linear layer; GPT-2's ``Conv1D`` holds its weight transposed."""
    if isinstance(layer, nn.Linear):
        return layer.out_features, layer.in_features
    inputs, outputs = layer.weight.shape
    return outputs, inputs


def _is_target(name: str, adapter: AdapterConfig) -> bool:
    targets, layers = adapter.target_modules, adapter.layers_to_transform
    if layers is not None and layer_number(name) not in layers:
        return False
    return targets == "all-linear" or any(matches_target(target, (name,)) for target in targets)
