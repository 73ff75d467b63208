"""Models loaded tensor by tensor on the CPU, with little memory and, for NF4, in little time.

transformers converts and quantizes while it loads, but from memory-mapped files: every page read stays resident until
the last tensor of its file is gone, so the process grows by the whole checkpoint. And nearly all of the time that NF4
takes goes into one search over 15 boundaries per weight. Here transformers is handed the same tensors read on demand
into memory of their own, and bitsandbytes' quantization is answered by a table. The loaded model is the same, bit for
bit.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from safetensors import safe_open
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, GenerationConfig, PreTrainedModel

from whinchat.models.memory import give_back_memory
from whinchat.models.nf4 import FastNF4


def load_streamed(
    path: str, revision: str | None, options: dict[str, Any]
) -> tuple[PreTrainedModel, dict[str, Any]] | None:
    """What ``AutoModelForCausalLM.from_pretrained(path, output_loading_info=True, **options)`` gives, one tensor at a
    time; None where the checkpoint has to be loaded another way.

    Args:
        path: a model folder or a hub id.
        revision: of the hub id.
        options: for ``from_pretrained``.

    Raises:
        OSError, ValueError, RuntimeError, SafetensorError: as ``from_pretrained`` does.
    """
    folder = _folder(path, revision)
    config = AutoConfig.from_pretrained(folder)
    kind = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    files = _weight_files(folder)
    if (
        not files
        or not isinstance(kind, type)
        or kind.config_class is not type(config)  # type: ignore[attr-defined]
        or (folder / "adapter_config.json").is_file()
        or any(getattr(config, field, None) for field in ("quantization_config", "transformers_weights"))
    ):
        return None
    with ExitStack() as opened, FastNF4():
        # Mapped pages count as resident; what is read into a tensor goes when the tensor goes.
        shards = [opened.enter_context(safe_open(file, framework="pt", backend="pread")) for file in files]
        tensors = {name: shard.get_slice(name) for shard in shards for name in shard.keys()}  # noqa: SIM118
        model, report = kind.from_pretrained(  # type: ignore[attr-defined]
            None, config=config, state_dict=tensors, output_loading_info=True, **options
        )
    # From here on what from_pretrained does where it is given a path.
    model.config.name_or_path = model.name_or_path = path
    model.generation_config = _generation_config(folder)
    give_back_memory()
    return model, report


def misshapen_weights(model: PreTrainedModel) -> tuple[str, ...]:
    """Names of NF4 weights whose shapes are not the architecture's; transformers does not look at theirs."""
    return tuple(
        f"{name}.weight"
        for name, module in model.named_modules()
        if (state := getattr(getattr(module, "weight", None), "quant_state", None)) is not None
        and tuple(state.shape) != (module.out_features, module.in_features)
    )


def _folder(path: str, revision: str | None) -> Path:
    if Path(path).is_dir():
        return Path(path)

    wanted = ("*config.json", "model.safetensors", "model.safetensors.index.json", "model-*-of-*.safetensors")
    return Path(snapshot_download(path, revision=revision, allow_patterns=list(wanted)))


def _weight_files(folder: Path) -> list[Path]:
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        return [single]
    if not index.is_file():
        return []
    names = json.loads(index.read_text(encoding="utf-8")).get("weight_map", {}).values()
    return [folder / name for name in sorted(set(names))]


def _generation_config(folder: Path) -> Any:

    if (folder / "generation_config.json").is_file():
        return GenerationConfig.from_pretrained(folder)
    # Models of old keep these settings in their config.
    return GenerationConfig.from_pretrained(folder, config_file_name="config.json", _from_model_config=True)
