"""The class of transformers that a checkpoint is loaded with, and what this class can do; weights are not read."""

from dataclasses import replace
from typing import Any

from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, PreTrainedConfig, PreTrainedModel, __version__

from whinchat.errors import ModelError
from whinchat.models.config_checks import check_module_counts
from whinchat.models.device import DevicePlan
from whinchat.models.parameter_count import parameter_size

# Their activations exceed float16's largest number, 65504: Gemma's reach some 800,000. Sources:
# github.com/huggingface/transformers/issues/36822 and 11076, github.com/unslothai/unsloth/pull/4014 and 5092, the model
# card of microsoft/phi-2.
_OVERFLOWS_FLOAT16 = frozenset({
    "gemma", "gemma2", "gemma3", "gemma3_text", "gemma3n", "gemma3n_text", "gemma4", "gemma4_text", "gpt_neo",
    "gpt_oss", "phi",
})  # fmt: skip

# NF4 that holds less than this share of the weights it could hold is said.
_NF4_COMPLETE = 0.95


def causal_model_class(path: str, revision: str | None, name: str) -> type[PreTrainedModel]:
    """Return the class that loads the checkpoint as a causal language model.

    Args:
        path: a model folder, or OWNER/NAME on the Hugging Face hub.
        revision: branch, tag or commit on the hub; None for a folder.
        name: what messages call the model.

    Raises:
        ModelError: transformers has no causal language model for this checkpoint, or would run code from it, or
            config.json asks for more layers, heads or experts than any model has.
        One of CONFIG_FAULTS: config.json cannot be read.
    """
    config = read_config(path, revision, name)
    found: Any = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    if config.is_encoder_decoder or found is None:
        raise ModelError(
            f"{name}: a {config.model_type} model is no causal language model that transformers can load; choose a "
            "chat model that generates text from left to right"
        )
    model_class: type[PreTrainedModel] = found[0] if isinstance(found, tuple) else found
    return model_class


def read_config(path: str, revision: str | None, name: str) -> PreTrainedConfig:
    """Return the configuration of a checkpoint; the arguments are those of ``causal_model_class``.

    Raises:
        ModelError: transformers does not know the architecture, or would run code from the checkpoint, or config.json
            asks for more layers, heads or experts than any model has.
        One of CONFIG_FAULTS: config.json cannot be read.
    """
    settings, _ = PreTrainedConfig.get_config_dict(path, revision=revision or "main")
    try:
        config = AutoConfig.from_pretrained(path, revision=revision or "main", trust_remote_code=False)
    except (ValueError, KeyError) as error:
        if "auto_map" in settings:
            raise ModelError(
                f"{name}: comes with its own Python code (trust_remote_code), which whinchat does not run; choose a "
                "model whose architecture is part of transformers"
            ) from error
        if (kind := settings.get("model_type")) and f"`{kind}`" in str(error):
            raise ModelError(
                f"{name}: transformers {__version__} does not know the architecture {kind}; upgrade transformers, or "
                "choose another model"
            ) from error
        raise
    check_module_counts(config, name)
    return config


def fit_attention(plan: DevicePlan, requested: str, model_class: type[PreTrainedModel]) -> DevicePlan:
    """Return ``plan`` with an attention implementation that ``model_class`` has.

    Args:
        plan: the plan of the device.
        requested: ``backbone.attn_implementation`` of the recipe.
        model_class: the class of the model.

    Raises:
        ModelError: the recipe asks for sdpa, which the model does not have.
    """
    if plan.attn_implementation != "sdpa" or model_class._supports_sdpa:
        return plan
    if requested == "sdpa":
        raise ModelError(
            f"backbone.attn_implementation: {model_class.__name__} has no sdpa attention; set "
            "backbone.attn_implementation=auto"
        )
    return replace(
        plan, attn_implementation="eager", notes=(*plan.notes, f"{model_class.__name__} has eager attention only")
    )


def fit_float16(plan: DevicePlan, model_class: type[PreTrainedModel]) -> DevicePlan:
    """Return ``plan``, with float32 in place of float16 for models that are known to overflow in float16."""
    kind = model_class.config_class.model_type
    if plan.compute_dtype != "float16" or kind not in _OVERFLOWS_FLOAT16:
        return plan
    return replace(
        plan,
        load_in="float32" if plan.load_in == "float16" else plan.load_in,
        compute_dtype="float32",
        notes=(*plan.notes, f"{kind} models overflow in float16; float32 is used instead"),
    )


def nf4_notes(model: PreTrainedModel, name: str) -> tuple[str, ...]:
    """Return a sentence for a model that NF4 holds only in part; embeddings, output layer and norms never count.

    Raises:
        ModelError: NF4 holds nothing.
    """
    head = model.get_output_embeddings()
    aside = {id(model.get_input_embeddings().weight), *(() if head is None else (id(head.weight),))}
    held = rest = 0
    left: dict[str, int] = {}
    for key, parameter in model.named_parameters():
        if type(parameter).__name__ == "Params4bit":
            held += parameter_size(parameter)
        elif id(parameter) not in aside and parameter.ndim > 1:
            rest += parameter_size(parameter)
            own_name = ".".join(key.removesuffix(".weight").rsplit(".", 2)[-2:])
            left[own_name] = left.get(own_name, 0) + parameter_size(parameter)
    if not held:
        raise ModelError(
            f"{name}: backbone.load_in: nf4 quantizes plain linear layers, and {type(model).__name__} has none; "
            "set backbone.load_in=auto"
        )
    share = held / (held + rest)
    if share >= _NF4_COMPLETE:
        return ()
    names = ", ".join(own_name for own_name, size in left.items() if size >= 0.05 * rest)
    return (f"NF4 holds {100 * share:.1f} % of the weights besides the embeddings; {names} keep their data type",)
