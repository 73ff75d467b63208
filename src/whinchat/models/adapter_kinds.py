"""The kinds of PEFT adapters that whinchat can load: those that are known to be exact.

An adapter from elsewhere may be of any kind. A kind is known to be exact if every score and gradient equals that of one
plain unpadded pass for each text and label, and if disabling the adapter gives the bare model back
(``tests/models/test_adapter_kinds.py``).
"""

import re
import warnings
from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from peft import PEFT_TYPE_TO_CONFIG_MAPPING, PeftConfig, __version__

from whinchat.errors import ModelError
from whinchat.models.json_files import JsonFileError, read_json_object
from whinchat.models.weight_checks import listed, shown

# Kinds other than LoRA, by their names in ``peft.PeftType``.
_EXACT_KINDS = frozenset({
    "ADALORA", "ADAMSS", "BEFT", "BOFT", "C3A", "DEFT", "DELORA", "FOURIERFT", "FROD", "GLORA", "GRALORA", "HIRA",
    "HRA", "IA3", "LN_TUNING", "LOHA", "LOKR", "MISS", "OFT", "OSF", "PEANUT", "PSOFT", "PVERA", "RANDLORA", "ROAD",
    "SHIRA", "SUPERTUNING", "TINYLORA", "TRAINABLE_TOKENS", "UNILORA", "VBLORA", "VERA", "WAVEFT",
})  # fmt: skip

# Fields of LoraConfig with which LoRA is known to be exact. Any other field must have its default value.
_EXACT_FIELDS = frozenset({
    "task_type", "peft_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "inference_mode",
    "r", "target_modules", "exclude_modules", "lora_alpha", "lora_dropout", "fan_in_fan_out", "use_rslora",
    "modules_to_save", "init_lora_weights", "layers_to_transform", "layers_pattern", "rank_pattern", "alpha_pattern",
    "trainable_token_indices", "use_dora", "lora_bias", "target_parameters", "runtime_config", "ensure_weight_tying",
})  # fmt: skip
# Starts that leave the base model's weights as they are. With PiSSA, OLoRA and others, PEFT changes them.
_EXACT_STARTS = (True, False, "gaussian", "eva", "orthogonal")


# Settings that are sizes of tensors.
_SIZE = re.compile(r"r|rank|\w+_r|\w+_rank|(num|n)_\w+|\w+_(size|dim|length)")
# What PEFT's configurations raise for values of a wrong type or out of range.
_CONFIG_FAULTS = (OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError, ImportError)


def read_adapter_config(folder: Path) -> PeftConfig:
    """Read the configuration of the adapter in ``folder``, and check that its kind is known to be exact.

    Raises:
        ModelError: the adapter is of another kind or for another task, or its adapter_config.json cannot be read or
            has settings that this release of PEFT does not know.
    """
    if not (folder / "adapter_config.json").is_file():
        raise ModelError(f"{folder}: no adapter_config.json; point at the adapter/ folder of a finished run")
    try:
        settings = read_json_object(folder / "adapter_config.json")
    except JsonFileError as error:
        raise ModelError(f"{folder}: its adapter_config.json cannot be read: {error}") from error
    kind, task = settings.get("peft_type"), settings.get("task_type")
    if not isinstance(kind, str) or kind not in {"LORA", *_EXACT_KINDS}:
        raise ModelError(
            f"{folder}: an adapter of kind {shown(kind)}, which is not known to score texts exactly; merge it into its "
            "model with PEFT, or train with whinchat"
        )
    if task not in (None, "CAUSAL_LM"):
        raise ModelError(f"{folder}: an adapter for the task {shown(task)}; whinchat needs one for CAUSAL_LM")
    config_class = PEFT_TYPE_TO_CONFIG_MAPPING[kind]
    known = {field.name for field in fields(config_class)}
    if unknown := [name for name, value in settings.items() if name not in known and value]:
        raise ModelError(
            f"{folder}: its adapter_config.json has settings that PEFT {__version__} does not know "
            f"({listed(unknown)}); upgrade peft, or load another adapter"
        )
    settings = {name: value for name, value in settings.items() if name in known - {"runtime_config"}}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # advice on training
            config: PeftConfig = config_class(**settings)
    except _CONFIG_FAULTS as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"{folder}: its adapter_config.json cannot be read: {reason}") from error
    config.inference_mode = True
    if kind == "LORA":
        _check_lora(folder, config)
    return config


def _check_lora(folder: Path, config: Any) -> None:
    """Raise ModelError where LoRA has settings that are not known to be exact."""
    if unknown := [name for name in _changed_fields(config) if name not in _EXACT_FIELDS]:
        raise ModelError(
            f"{folder}: LoRA with {', '.join(unknown)}, which is not known to score texts exactly; merge it into its "
            "model with PEFT, or train with whinchat"
        )
    if config.init_lora_weights not in _EXACT_STARTS:
        raise ModelError(
            f"{folder}: PEFT changes the base model's weights when it loads an adapter with init_lora_weights "
            f"{config.init_lora_weights}; save it as plain LoRA (path_initial_model_for_weight_conversion)"
        )


def adapter_sizes(config: PeftConfig) -> Iterator[tuple[str, int]]:
    """Yield each setting of ``config`` by which PEFT allocates memory, and its value."""
    for field in fields(config):
        value = getattr(config, field.name)
        for number in value.values() if isinstance(value, dict) else (value,):
            if isinstance(number, int) and (_SIZE.fullmatch(field.name) or field.name == "rank_pattern"):
                yield field.name, number


def _changed_fields(config: Any) -> list[str]:
    """Return the names of the fields of ``config`` that differ from their default value."""
    changed = []
    for field in fields(config):
        default = field.default if field.default_factory is MISSING else field.default_factory()
        if (value := getattr(config, field.name)) != default and value not in (None, {}, []):
            changed.append(field.name)
    return changed
