"""Adapters through PEFT: attach, count, save, load."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from peft.utils.integrations import dequantize_module_weight
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import PreTrainedModel

from whinchat.errors import ModelError
from whinchat.models.packed.dora import use_fast_forward
from whinchat.recipe.schema import AdapterConfig


def attach_adapter(model: PreTrainedModel, adapter: AdapterConfig, seed: int) -> PeftModel:
    """Put a fresh adapter on ``model``; its float32 weights are the only ones that train.

    Before the first step the model computes what it computed without the adapter. The same seed gives the same weights.

    Raises:
        ModelError: ``target_modules`` match no linear layer of the model.
    """
    # PiSSA's anchor takes as many ranks again; alpha grows along so that the scale stays what the recipe says.
    rank = adapter.r * (2 if adapter.init == "pissa" else 1)
    stretch = (math.sqrt(2) if adapter.method == "rslora" else 2) if adapter.init == "pissa" else 1
    targets = adapter.target_modules
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=rank,
        lora_alpha=adapter.lora_alpha * stretch,
        lora_dropout=adapter.lora_dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        use_dora=adapter.method == "dora",
        use_rslora=adapter.method == "rslora",
    )
    check_targets(model, adapter)
    torch.manual_seed(seed)
    tuned = get_peft_model(model, config)
    if adapter.init == "pissa":
        for layer in lora_layers(tuned):
            _start_from_singular_vectors(layer, adapter.r)
    if adapter.method == "dora":
        for layer in lora_layers(tuned):
            _exact_magnitude(layer)
    use_fast_forward(tuned)
    return tuned


def load_adapter(model: PreTrainedModel, folder: Path, name: str = "default") -> PeftModel:
    """The adapter in ``folder`` on ``model``, for use and not for training.

    Raises:
        ModelError: the folder holds no adapter, or one for another model.
    """
    return _loaded(folder, lambda: PeftModel.from_pretrained(model, str(folder), adapter_name=name))


def add_adapter(tuned: PeftModel, folder: Path, name: str) -> PeftModel:
    """One more adapter beside those that ``tuned`` has; ``set_adapter(name)`` puts it to work. Raises as above."""

    def load() -> PeftModel:
        tuned.load_adapter(str(folder), adapter_name=name)
        return tuned

    return _loaded(folder, load)


def _loaded(folder: Path, load: Callable[[], PeftModel]) -> PeftModel:

    if not (folder / "adapter_config.json").is_file():
        raise ModelError(f"{folder}: no adapter_config.json; point at the adapter/ folder of a finished run")
    try:
        tuned = load().eval()
    except (RuntimeError, ValueError, SafetensorError) as fault:
        raise ModelError(f"{folder}: does not fit this model: {str(fault).strip().splitlines()[0]}") from fault
    use_fast_forward(tuned)
    return tuned


def cast_lora_factors(model: nn.Module, dtype: torch.dtype) -> None:
    """Hold LoRA's factors in the data type they are multiplied in: the same answers without a cast at each call.

    Not for a model that is to be trained or saved. DoRA's factors stay as they are: its norm is taken from them.
    """
    for layer in lora_layers(model):
        for name in layer.lora_A:
            if name not in layer.lora_variant:
                layer.lora_A[name].to(dtype)
                layer.lora_B[name].to(dtype)


@contextmanager
def adapters_disabled(layers: Sequence[Any]) -> Iterator[None]:
    """Inside, ``lora_layers`` answer as if they carried no adapter.

    PEFT's own ``disable_adapter`` goes through all modules to find them, which takes half as long as a text.
    """
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


def save_adapter(model: PeftModel, folder: Path, base_model: str | None) -> None:
    """Write the adapter in PEFT's format; ``base_model`` is the name it gives for its backbone."""
    for config in model.peft_config.values():
        config.base_model_name_or_path = base_model
    model.save_pretrained(str(folder), save_embedding_layers=False)
    # PEFT's template of a model card, full of "more information needed"; the run folder has a real one.
    (folder / "README.md").unlink(missing_ok=True)


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """All and trainable parameters; NF4 holds two weights a byte, and PiSSA's anchor does not train."""
    total = trainable = 0
    for parameter in model.parameters():
        packed = parameter.numel() * (2 if parameter.__class__.__name__ == "Params4bit" else 1)
        total += packed
        if parameter.requires_grad:
            trainable += packed // (2 if getattr(parameter, _ANCHORED, False) else 1)
    return total, trainable


def lora_layers(model: nn.Module) -> list[Any]:
    """Every layer of ``model`` that carries an adapter."""
    return [module for module in model.modules() if isinstance(module, LoraLayer)]


def check_targets(model: PreTrainedModel, adapter: AdapterConfig) -> None:
    """Make sure that the adapter fits the model, before anything long is done with it.

    Raises:
        ModelError: a name matches no linear layer, or PiSSA is to start from more singular vectors than a layer has.
    """
    head = model.get_output_embeddings()
    linear = {name: one for name, one in model.named_modules() if isinstance(one, nn.Linear) and one is not head}
    own_names = {name: name.rsplit(".", 1)[-1] for name in linear}
    targets = adapter.target_modules if isinstance(adapter.target_modules, tuple) else tuple(own_names.values())
    missing = [one for one in targets if not any(name == one or name.endswith(f".{one}") for name in linear)]
    if missing:
        raise ModelError(
            f"adapter.target_modules: {', '.join(missing)} match no linear layer of {model.__class__.__name__}; "
            f"its linear layers are {', '.join(sorted(set(own_names.values())))}; name some of them or use all-linear"
        )
    sides = [min(one.in_features, one.out_features) for name, one in linear.items() if own_names[name] in targets]
    if adapter.init == "pissa" and sides and adapter.r > min(sides):
        raise ModelError(
            f"adapter.r: pissa starts from {adapter.r} singular vectors, the smallest target layer has {min(sides)}; "
            "lower adapter.r or use adapter.init=default"
        )


_ANCHORED = "_whinchat_anchored"


def _start_from_singular_vectors(layer: Any, rank: int, name: str = "default") -> None:
    """PiSSA: train the top singular triplets of W, and subtract what they were from a frozen W.

    The adapter holds [A; A0] and [B, -B0] with A = A0, B = B0 at the start, so that W + s(BA - B0 A0) = W. The second
    halves get no gradient. Writing the residual into W instead, as PEFT does, would not survive NF4, nor be exact in
    bfloat16, and the saved adapter would need another base model; this one fits the original in every data type.

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
    a.register_hook(lambda grad: _zeroed(grad, 0, rank))
    b.register_hook(lambda grad: _zeroed(grad, 1, rank))
    setattr(a, _ANCHORED, True)
    setattr(b, _ANCHORED, True)


def _exact_magnitude(layer: Any, name: str = "default") -> None:
    """DoRA's magnitudes as the float32 row norms of W.

    PEFT takes them in the weight's own data type; in bfloat16 that is off by up to 0.4 %, and the first forward pass
    would not be the base model's.
    """
    with torch.no_grad():
        magnitude = layer.lora_magnitude_vector[name].weight  # (O,)
        magnitude.copy_(torch.linalg.vector_norm(_dense_weight(layer.get_base_layer()), dim=1))


def _zeroed(grad: Tensor, dim: int, start: int) -> Tensor:
    kept = grad.clone()
    kept.narrow(dim, start, grad.shape[dim] - start).zero_()
    return kept


def _dense_weight(base: nn.Module) -> Tensor:
    """The frozen weight in float32, dequantized where it is NF4, (O, I)."""
    weight: Tensor = dequantize_module_weight(base)
    return weight.detach().float()
