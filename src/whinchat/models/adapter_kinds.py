"""The kinds of PEFT adapters that whinchat can load: those that are known to be exact.

An adapter from elsewhere may be of any kind. A kind is known to be exact if every score and gradient equals that of one
plain unpadded pass for each text and label, and if disabling the adapter gives the bare model back
(``tests/models/test_adapter_kinds.py``).
"""

from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from peft import PeftConfig

from whinchat.errors import ModelError

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


def check_adapter_kind(folder: Path) -> None:
    """Check that the adapter in ``folder`` is of a kind that is known to be exact.

    Raises:
        ModelError: the adapter is of another kind, or its adapter_config.json cannot be read.
    """
    try:
        config = PeftConfig.from_pretrained(str(folder))
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"{folder}: its adapter_config.json cannot be read: {reason}") from error
    kind = getattr(config.peft_type, "value", config.peft_type)
    if kind in _EXACT_KINDS:
        return
    if kind != "LORA":
        raise ModelError(
            f"{folder}: an adapter of kind {kind}, which is not known to score texts exactly; merge it into its model "
            "with PEFT, or train with whinchat"
        )
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


def _changed_fields(config: Any) -> list[str]:
    """Return the names of the fields of ``config`` that differ from their default value."""
    changed = []
    for field in fields(config):
        default = field.default if field.default_factory is MISSING else field.default_factory()
        if (value := getattr(config, field.name)) != default and value not in (None, {}, []):
            changed.append(field.name)
    return changed
