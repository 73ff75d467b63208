"""Adapters through PEFT: attach, save and load them, and count parameters.

O, I: rows and columns of a frozen weight W. R: rank of the adapter. A: (R, I) and B: (O, R), its factors.
"""

import json
import math
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model
from peft.tuners.lora import ParamWrapper
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.integrations import dequantize_module_weight
from peft.utils.other import AuxiliaryTrainingWrapper, TrainableTokensWrapper
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from whinchat.errors import ModelError
from whinchat.models.adapter_files import load_whole_adapter
from whinchat.models.adapter_kinds import read_adapter_config
from whinchat.models.adapter_targets import lora_layers, plan_adapter
from whinchat.models.backbone import Backbone
from whinchat.models.lm_head import FloatHead
from whinchat.models.packed.dora import use_fast_forward
from whinchat.models.parameter_count import parameter_size
from whinchat.recipe.model_config import AdapterConfig


def attach_adapter(model: PreTrainedModel, adapter: AdapterConfig, seed: int) -> PeftModel:
    """Attach a fresh adapter, whose float32 weights are the only ones that train.

    Before the first training step the model computes what it computed without the adapter.

    Args:
        model: the frozen model; PEFT changes it in place.
        adapter: the section of the recipe.
        seed: of the adapter's random weights.

    Raises:
        ModelError: the adapter does not fit the model; see ``plan_adapter``.
    """
    config = plan_adapter(model, adapter).config
    if adapter.init == "pissa":
        # PiSSA's frozen half doubles the rank. Alpha grows with it, so that the scale is the one of the recipe.
        config.r *= 2
        config.lora_alpha *= math.sqrt(2) if adapter.method == "rslora" else 2
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        # PEFT sets fan_in_fan_out for GPT-2's layers by itself, and says so for each.
        warnings.filterwarnings("ignore", "fan_in_fan_out is set to False")
        tuned = get_peft_model(model, config)
    for layer in lora_layers(tuned):
        if adapter.init == "pissa":
            _start_from_singular_vectors(layer, adapter.r)
        if adapter.method == "dora":
            _set_exact_magnitude(layer)
    use_fast_forward(tuned)
    return tuned


def load_adapter(model: PreTrainedModel | PeftModel, folder: Path, name: str = "default") -> PeftModel:
    """Load the adapter in ``folder`` onto ``model`` for inference; PEFT changes ``model`` in place.

    Args:
        model: the model. Where it carries adapters already, ``set_adapter(name)`` activates the new one.
        folder: the folder of the adapter.
        name: name of the adapter in the model.

    Raises:
        ModelError: the folder holds no adapter, one for another model, one of a kind that is not known to be exact, or
            one whose weights are not complete and finite.
    """
    tuned = load_whole_adapter(model, read_adapter_config(folder), folder, name)
    head = tuned.get_base_model().get_output_embeddings()
    if isinstance(head, TrainableTokensWrapper) and any(isinstance(part, FloatHead) for part in head.modules()):
        raise ModelError(
            f"{folder}: trains tokens of an output layer, whose logits PEFT would round; set "
            "backbone.load_in=float32 and backbone.compute_dtype=float32"
        )
    use_fast_forward(tuned)
    return tuned.eval()


def load_trained_adapter(
    backbone: Backbone, folder: Path, name: str = "default", model: PeftModel | None = None
) -> PeftModel:
    """Load the adapter in ``folder`` onto ``backbone``, on which it must have been trained.

    Args:
        backbone: the model and what it is recognized by.
        folder: the folder of the adapter.
        name: name of the adapter in the model.
        model: the backbone's model with other adapters on it, where it has any.

    Raises:
        ModelError: the adapter was trained on another model, or ``load_adapter`` refuses it.
    """
    backbone.traits.check(folder, backbone.source.name)
    return load_adapter(backbone.model if model is None else model, folder, name)


def cast_lora_factors(model: nn.Module, dtype: torch.dtype) -> None:
    """Cast LoRA's factors to the data type of the products: the same results without a cast at each call.

    For inference only: a model that is trained or saved needs its float32 factors. DoRA's factors stay in float32,
    since the norm is computed from them.
    """
    for layer in lora_layers(model):
        for name in layer.lora_A:
            if name not in layer.lora_variant:
                layer.lora_A[name].to(dtype)
                layer.lora_B[name].to(dtype)


def adapter_layers(model: nn.Module) -> list[Any]:
    """Return every layer of ``model`` that PEFT has put an adapter of any kind on, or a trained copy beside."""
    return [module for module in model.modules() if isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper)]


@contextmanager
def adapters_disabled(layers: Sequence[Any]) -> Iterator[None]:
    """Disable the adapters of ``layers``, the model's ``adapter_layers``, inside the context.

    PEFT's own ``disable_adapter`` searches all modules for them, which takes half the time of scoring a text.
    """
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


def save_adapter(model: PeftModel, folder: Path, base_model: str | None) -> None:
    """Write the adapter of ``model`` in PEFT's format; adapter_config.json names ``base_model`` as its backbone."""
    for config in model.peft_config.values():
        config.base_model_name_or_path = base_model
    model.save_pretrained(str(folder), save_embedding_layers=False)
    for name, config in model.peft_config.items():
        file = (folder if name == "default" else folder / name) / "adapter_config.json"
        settings = json.loads(file.read_text(encoding="utf-8"))
        # PEFT lists sets, whose order changes from process to process; the same run shall end in the same bytes.
        sets = {key for key in settings if isinstance(getattr(config, key, None), set)}
        settings |= {key: sorted(settings[key]) for key in sets}
        file.write_text(json.dumps(settings, indent=2, sort_keys=True), encoding="utf-8")
    # PEFT writes a model card full of "more information needed"; the run folder has a real one.
    (folder / "README.md").unlink(missing_ok=True)


def merge_adapter(model: PeftModel) -> PreTrainedModel:
    """Add the adapter to the base weights and return the model without it.

    Raises:
        ModelError: layers share a weight and each has an adapter of its own, or this kind of adapter cannot be merged.
    """
    weights = Counter(
        id(weight)
        for module in model.get_base_model().modules()
        for weight in module.parameters(recurse=False)
        if weight.ndim > 1
    )
    adapted = [layer.get_base_layer() for layer in lora_layers(model) if not isinstance(layer, ParamWrapper)]
    if any(weights[id(layer.weight)] > 1 for layer in adapted):
        raise ModelError(
            f"{type(model.get_base_model()).__name__}: several of its layers share one weight and differ by their "
            "adapters, so these cannot be merged; use the adapter as it is"
        )
    if not hasattr(model.base_model, "merge_and_unload"):
        raise ModelError(f"{model.active_adapter}: this kind of adapter cannot be merged; use the adapter as it is")
    merged: PreTrainedModel = model.merge_and_unload(safe_merge=True)
    return merged


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Count the parameters of a loaded model.

    Returns:
        All parameters, with the two that NF4 packs into a byte counted apart, and the trainable ones, without the
        frozen half of PiSSA's factors.
    """
    total = trainable = 0
    for parameter in model.parameters():
        count = parameter_size(parameter)
        total += count
        if parameter.requires_grad:
            trainable += count // (2 if getattr(parameter, _HALF_FROZEN, False) else 1)
    return total, trainable


# Attribute that marks the factors of PiSSA, of which one half gets no gradient.
_HALF_FROZEN = "_whinchat_half_frozen"


def _start_from_singular_vectors(layer: Any, rank: int, name: str = "default") -> None:
    """Start LoRA from the top singular triplets of W, as PiSSA does, and leave W as it is.

    The adapter holds [A; A0] and [B, -B0], where A = A0 and B = B0 at the start, so that W + s(BA - B0 A0) = W. The
    halves A0 and -B0 get no gradient. PEFT writes the residual into W instead, which NF4 would quantize anew and
    bfloat16 would round, and its saved adapter needs a changed base model. This adapter fits the original model in
    every data type.

    Source: PiSSA, section 3 (arXiv:2404.02948); its appendix on converting PiSSA to LoRA gives the same rank-2r form.
    """
    weight = _dense_weight(layer.get_base_layer())  # (O, I)
    scale = layer.scaling[name]
    left, values, right = torch.linalg.svd(weight, full_matrices=False)
    root = (values[:rank] / scale).sqrt()
    a0 = root[:, None] * right[:rank]  # (R, I)
    b0 = left[:, :rank] * root  # (O, R)
    a, b = layer.lora_A[name].weight, layer.lora_B[name].weight
    with torch.no_grad():
        a.copy_(torch.cat([a0, a0]))
        b.copy_(torch.cat([b0, -b0], dim=1))
    a.register_hook(lambda grad: torch.cat([grad[:rank], torch.zeros_like(grad[rank:])]))
    b.register_hook(lambda grad: torch.cat([grad[:, :rank], torch.zeros_like(grad[:, rank:])], dim=1))
    setattr(a, _HALF_FROZEN, True)
    setattr(b, _HALF_FROZEN, True)


def _set_exact_magnitude(layer: Any, name: str = "default") -> None:
    """Set DoRA's magnitudes to the float32 row norms of W.

    PEFT computes them in the data type of W. In bfloat16 they are off by up to 0.4 %, and the model with a fresh
    adapter would not compute what the base model does.
    """
    with torch.no_grad():
        magnitude = layer.lora_magnitude_vector[name].weight  # (O,)
        magnitude.copy_(torch.linalg.vector_norm(_dense_weight(layer.get_base_layer()), dim=1))


def _dense_weight(base: nn.Module) -> Tensor:
    """Return the frozen weight, dequantized where it is NF4, in float32, (O, I)."""
    weight: Tensor = dequantize_module_weight(base)
    return (weight.T if isinstance(base, Conv1D) else weight).detach().float()
