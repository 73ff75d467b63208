"""Load a model on the CPU tensor by tensor, with little memory and, for NF4, in little time.

transformers converts and quantizes while it loads, but from memory-mapped files: every page stays resident until the
last tensor of its file is freed, so the process grows by the whole checkpoint. And NF4 quantization spends nearly all
its time on searching 15 boundaries for each weight. Here transformers gets the same tensors, each read on demand into
memory of its own, and a table replaces the search. The loaded model is bit-identical.
"""

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
    """Load a causal language model with one tensor of the checkpoint in memory at a time.

    Args:
        path: a model folder, or OWNER/NAME on the Hugging Face hub.
        revision: branch, tag or commit on the hub; None for a folder.
        options: keyword arguments of ``from_pretrained``.

    Returns:
        The model and the loading info, as ``AutoModelForCausalLM.from_pretrained(path, output_loading_info=True,
        **options)`` returns them. None where this function cannot load the checkpoint: no safetensors, weights that are
        quantized already, an adapter instead of a model, or an architecture from outside transformers.

    Raises:
        OSError, ValueError, RuntimeError, SafetensorError: as ``from_pretrained`` raises them.
    """
    folder = _local_folder(path, revision)
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    model_class = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    files = _weight_files(folder)
    if (
        not files
        or not isinstance(model_class, type)
        or model_class.config_class is not type(config)  # type: ignore[attr-defined]  # transformers is not typed
        or (folder / "adapter_config.json").is_file()
        or any(getattr(config, field, None) for field in ("quantization_config", "transformers_weights"))
    ):
        return None
    with ExitStack() as stack:
        if "quantization_config" in options:
            stack.enter_context(FastNF4())
        # Read, not memory-mapped: the memory of a tensor is freed with the tensor.
        shards = [stack.enter_context(safe_open(file, framework="pt", backend="pread")) for file in files]
        tensors = {name: shard.get_slice(name) for shard in shards for name in shard.keys()}  # noqa: SIM118  # a shard is no mapping
        model, loading_info = model_class.from_pretrained(  # type: ignore[attr-defined]  # transformers is not typed
            None, config=config, state_dict=tensors, output_loading_info=True, trust_remote_code=False, **options
        )
    # from_pretrained does the following itself when it gets a path.
    model.config.name_or_path = model.name_or_path = path
    model.generation_config = _generation_config(folder)
    give_back_memory()
    return model, loading_info


def misshapen_weights(model: PreTrainedModel) -> tuple[str, ...]:
    """Return the names of NF4 weights whose shapes do not fit the architecture; transformers does not check these."""
    return tuple(
        f"{name}.weight"
        for name, module in model.named_modules()
        if (state := getattr(getattr(module, "weight", None), "quant_state", None)) is not None
        and tuple(state.shape) != (module.out_features, module.in_features)
    )


def _local_folder(path: str, revision: str | None) -> Path:
    if Path(path).is_dir():
        return Path(path)
    patterns = ["*config.json", "model.safetensors", "model.safetensors.index.json", "model-*-of-*.safetensors"]
    return Path(snapshot_download(path, revision=revision, allow_patterns=patterns))


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
    # Older models keep the generation settings in config.json.
    return GenerationConfig.from_pretrained(folder, config_file_name="config.json", _from_model_config=True)
