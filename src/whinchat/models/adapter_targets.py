"""The layers that an adapter is attached to: chosen, tried out and counted before a run spends anything."""

import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer, ParamWrapper
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from whinchat.errors import ModelError
from whinchat.models.lm_head import FloatHead
from whinchat.models.parameter_count import parameter_size
from whinchat.models.shallow_model import layer_number
from whinchat.recipe.model_config import AdapterConfig

# Layers with a smaller share of the model than this are not worth a sentence.
_WORTH_SAYING = 0.02
# Tokens of the forward pass that shows which layers a model calls.
_PROBE_TOKENS = 8


@dataclass(frozen=True)
class AdapterPlan:
    """How a recipe's adapter is attached to a model.

    Attributes:
        config: PEFT's configuration. PEFT accepts it for this model.
        adapted_share: share of the model's parameters in the layers that get an adapter.
        notes: sentences that say which layers get an adapter, and which large ones do not.
    """

    config: LoraConfig
    adapted_share: float
    notes: tuple[str, ...]


def plan_adapter(model: PreTrainedModel, adapter: AdapterConfig) -> AdapterPlan:
    """Choose the layers of ``model`` that get an adapter, and try PEFT on a copy of the model without weights.

    Layers that the model does not call, such as those of a vision tower or those whose weight is read directly, get
    none: an adapter would change nothing there.

    Raises:
        ModelError: a target matches nothing that can carry an adapter, PEFT refuses a target, or PiSSA needs more
            singular vectors than a target layer has.
    """
    named = _named_layers(model, adapter)
    called = _called_layers(model, named)
    able = [name for name in called if _is_linear_map(named[name])]
    if not able and not adapter.target_parameters:
        raise ModelError(
            f"adapter.target_modules: {type(model).__name__} calls none of these layers in a forward pass as plain "
            "linear layers, so an adapter would change nothing; name other layers"
        )
    # PEFT's own shorthand keeps adapter_config.json short.
    is_short = len(able) == len(named) and adapter.layers_to_transform is None
    targets = adapter.target_modules if is_short else tuple(able)
    tuned, reason = _try(model, adapter, targets)
    if tuned is None and adapter.target_modules == "all-linear":
        own_names = sorted({name.rsplit(".", 1)[-1] for name in able})
        refused = [name for name in own_names if _try(model, adapter, (name,))[0] is None]
        targets = tuple(name for name in able if name.rsplit(".", 1)[-1] not in refused)
        tuned = _try(model, adapter, targets)[0] if targets else None
    if tuned is None:
        raise ModelError(
            f"adapter.target_modules: PEFT cannot attach this adapter to {type(model).__name__}: {reason}; name other "
            "layers, or use adapter.method=lora without dropout"
        )
    _check_rank(tuned, adapter)
    return AdapterPlan(lora_config(adapter, "CAUSAL_LM", targets), adapted_share(tuned), _notes(tuned))


def lora_config(
    adapter: AdapterConfig, task_type: str, target_modules: str | tuple[str, ...] | None = None
) -> LoraConfig:
    """Return the recipe's section as PEFT's configuration.

    Args:
        adapter: the section of the recipe.
        task_type: PEFT's name of the task, such as ``CAUSAL_LM``.
        target_modules: layers to adapt; None for those of ``adapter``.
    """
    targets = adapter.target_modules if target_modules is None else target_modules
    return LoraConfig(
        task_type=task_type,
        r=adapter.r,
        lora_alpha=adapter.lora_alpha,
        lora_dropout=adapter.lora_dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        target_parameters=list(adapter.target_parameters) or None,
        use_dora=adapter.method == "dora",
        use_rslora=adapter.method == "rslora",
    )


def lora_layers(model: nn.Module) -> list[Any]:
    """Return every layer of ``model`` that carries a LoRA or DoRA adapter."""
    return [module for module in model.modules() if isinstance(module, LoraLayer)]


def linear_layers(model: PreTrainedModel) -> dict[str, nn.Module]:
    """Return the linear layers of ``model`` but its output layer, by name; GPT-2's are ``Conv1D``."""
    head = model.get_output_embeddings()
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and module is not head
    }


def expert_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the weights of experts that are one parameter for all experts instead of linear layers, by name."""
    return {
        f"{name}.{parameter_name}": parameter
        for name, module in model.named_modules()
        if type(module).__name__.endswith("Experts")
        for parameter_name, parameter in module.named_parameters(recurse=False)
        if parameter.ndim == 3
    }


def adapted_share(model: nn.Module) -> float:
    """Return the share of the base model's parameters that belong to layers with an adapter."""
    adapted = {id(parameter) for layer in lora_layers(model) for parameter in _base_parameters(layer)}
    sizes = {id(parameter): parameter_size(parameter) for _, parameter in _of_base(model)}
    return sum(size for key, size in sizes.items() if key in adapted) / max(1, sum(sizes.values()))


def _base_parameters(layer: Any) -> Iterator[nn.Parameter]:
    """Yield the frozen parameters that the adapter of ``layer`` changes, and the bias beside them."""
    if isinstance(layer, ParamWrapper):
        yield layer.get_param()
    else:
        yield from layer.get_base_layer().parameters()


def _of_base(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield the parameters that are no adapter's, by name; PEFT begins the names of an adapter's with ``lora_``."""
    return ((name, parameter) for name, parameter in model.named_parameters() if ".lora_" not in name)


def _try(
    model: PreTrainedModel, adapter: AdapterConfig, targets: str | tuple[str, ...]
) -> tuple[PeftModel | None, str]:
    """Attach the adapter to a copy without weights; return the copy, or None and the reason why this fails."""
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        skeleton = type(model)(deepcopy(model.config))
        try:
            tuned = get_peft_model(skeleton, lora_config(adapter, "CAUSAL_LM", targets))
        except (ValueError, TypeError, NotImplementedError) as error:
            return None, str(error).strip().splitlines()[0].rstrip(".")
    if adapter.init == "pissa" and any(isinstance(layer, ParamWrapper) for layer in lora_layers(tuned)):
        return None, "PiSSA starts from the weights of linear layers, and this architecture has experts"
    return tuned, ""


def _named_layers(model: PreTrainedModel, adapter: AdapterConfig) -> dict[str, nn.Module]:
    """Return the linear layers that the recipe names.

    Raises:
        ModelError: a target of the recipe matches nothing that can carry an adapter.
    """
    experts = expert_parameters(model)
    if missing := [target for target in adapter.target_parameters if not matches_target(target, experts)]:
        names = ", ".join(sorted({_short(name) for name in experts}))
        raise ModelError(
            f"adapter.target_parameters: {', '.join(missing)} match no experts' weights of {type(model).__name__}; "
            + (f"it has {names}" if names else "it has none, so leave adapter.target_parameters out")
        )
    linear = chosen_layers(linear_layers(model), adapter)
    if adapter.target_modules == "all-linear":
        return linear
    head = model.get_output_embeddings()
    head_name = next((name for name, module in model.named_modules() if module is head), "")
    linear_or_head = {**linear, head_name: head}
    if missing := [target for target in adapter.target_modules if not matches_target(target, linear_or_head)]:
        names = ", ".join(sorted({name.rsplit(".", 1)[-1] for name in linear}))
        raise ModelError(
            f"adapter.target_modules: {', '.join(missing)} match no linear layer of {type(model).__name__}; "
            f"its linear layers are {names}; name some of them or use all-linear"
        )
    named = {
        name: module
        for name, module in linear_or_head.items()
        if any(matches_target(target, (name,)) for target in adapter.target_modules)
    }
    if head_name in named and head.weight is model.get_input_embeddings().weight:
        raise ModelError(
            f"adapter.target_modules: {head_name} shares its weight with the input embeddings of this model, so "
            "merging the adapter would change the embeddings, too; leave it out"
        )
    return named


def chosen_layers(linear: dict[str, nn.Module], adapter: AdapterConfig) -> dict[str, nn.Module]:
    """Return the linear layers in the layers of the model that ``layers_to_transform`` numbers.

    Raises:
        ModelError: the model has no layer of such a number.
    """
    if adapter.layers_to_transform is None:
        return linear
    numbers = {name: layer_number(name) for name in linear}
    if missing := sorted(set(adapter.layers_to_transform) - set(numbers.values())):
        raise ModelError(
            f"adapter.layers_to_transform: the model has no linear layers in layer {', '.join(map(str, missing))}; its "
            f"layers are 0 to {max(numbers.values())}"
        )
    return {name: layer for name, layer in linear.items() if numbers[name] in adapter.layers_to_transform}


def _called_layers(model: PreTrainedModel, layers: Mapping[str, nn.Module]) -> list[str]:
    """Return the names of the layers that a forward pass over text calls.

    Layers whose names differ by numbers only count as called together, since not every expert sees every text.
    """
    if next(model.parameters()).is_meta:
        # Without weights there is no forward pass to look at.
        return list(layers)
    seen: set[str] = set()

    def kind(name: str) -> str:
        return re.sub(r"\d+", "#", name)

    def note(name: str) -> Callable[..., None]:
        return lambda *_: seen.add(kind(name))

    hooks = [module.register_forward_pre_hook(note(name)) for name, module in layers.items()]
    ids = torch.arange(_PROBE_TOKENS, device=model.get_input_embeddings().weight.device)[None]
    called, was_training = {kind(name) for name in layers}, model.training
    try:
        for is_training in (True, False):
            # Kernels of some architectures read weights directly in training alone.
            seen.clear()
            with torch.no_grad():
                model.train(is_training)(input_ids=ids, use_cache=False)
            called &= seen
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    return [name for name in layers if kind(name) in called]


def _is_linear_map(layer: Any) -> bool:
    """Return whether ``layer`` computes the product with its weight plus its bias, which an adapter is made for."""
    own = type(layer).forward
    if own in (nn.Linear.forward, Conv1D.forward, FloatHead.forward) or type(layer).__module__.startswith(
        "bitsandbytes."
    ):
        return True
    x = torch.randn(2, layer.in_features).to(layer.weight)
    with torch.no_grad():
        found, expected = layer(x), nn.functional.linear(x, layer.weight, layer.bias).float()
    # Without weights there are no numbers to compare.
    return isinstance(found, Tensor) and (
        found.is_meta or torch.allclose(found.float(), expected, rtol=1e-2, atol=1e-2)
    )


def matches_target(target: str, names: Any) -> bool:
    """Return whether ``target`` is one of ``names`` or the end of one, as PEFT matches targets."""
    return any(f".{name}".endswith(f".{target}") for name in names)


def _check_rank(tuned: nn.Module, adapter: AdapterConfig) -> None:
    """Raise ModelError where PiSSA needs more singular vectors than a layer of ``tuned`` has."""
    smallest = min(min(layer.in_features, layer.out_features) for layer in lora_layers(tuned))
    if adapter.init == "pissa" and adapter.r > smallest:
        raise ModelError(
            f"adapter.r: pissa starts from {adapter.r} singular vectors, the smallest target layer has {smallest}; "
            "lower adapter.r, name larger layers in adapter.target_modules, or use adapter.init=default"
        )


def _notes(tuned: PeftModel) -> tuple[str, ...]:
    """Return what a user should know of the layers with and without an adapter."""
    layers = lora_layers(tuned)
    adapted = {id(parameter) for layer in layers for parameter in _base_parameters(layer)}
    total = sum(parameter_size(parameter) for _, parameter in _of_base(tuned))
    core = tuned.get_base_model()
    experts = expert_parameters(core)
    matrices: dict[str, Any] = {**{name: layer.weight for name, layer in linear_layers(core).items()}, **experts}
    bare = Counter[str]()
    for name, parameter in matrices.items():
        if id(parameter) not in adapted and ".lora_" not in name:
            bare[_short(name)] += parameter_size(parameter)
    large = [name for name, size in bare.items() if size >= _WORTH_SAYING * total]
    notes = (
        f"The adapter is attached to {len(layers)} layers, which hold {_percent(adapted_share(tuned))} of the model's "
        "parameters",
    )
    if not large:
        return notes
    share = _percent(sum(bare[name] for name in large) / total)
    adaptable = [name for name in large if name in {_short(expert) for expert in experts}]
    advice = f"; adapter.target_parameters={','.join(adaptable)} adapts the experts" if adaptable else ""
    return (*notes, f"{', '.join(large)} hold {share} of the parameters and get no adapter{advice}")


def _short(name: str) -> str:
    """Return the last two parts of a parameter's or layer's name, such as ``experts.down_proj``, without PEFT's."""
    return ".".join(name.replace(".base_layer", "").rsplit(".", 2)[-2:])


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
