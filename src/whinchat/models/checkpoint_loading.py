"""Load a model on the CPU tensor by tensor, with little memory and, for NF4, in little time.

transformers converts and quantizes while it loads, but from memory-mapped files: every page stays resident until the
last tensor of its file is freed, so the process grows by the whole checkpoint. And NF4 quantization spends nearly all
its time on searching 15 boundaries for each weight. Here transformers gets the same tensors, each read on demand into
memory of its own, and a table replaces the search. The loaded model is bit-identical.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from safetensors import safe_open
from torch import nn
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, GenerationConfig, PreTrainedModel

from whinchat.errors import ModelError
from whinchat.models.json_files import JsonFileError, read_json_object
from whinchat.models.memory import give_back_memory
from whinchat.models.nf4 import FastNF4
from whinchat.models.weight_checks import is_finite, listed, require_safetensors

_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
# Safetensors' names of the types of weights that are not quantized, and tensors of other types in such files: masks.
_FLOATS = {"F64", "F32", "F16", "BF16"}
_MASKS = {"bias", "masked_bias", "position_ids", "num_batches_tracked"}
# Weights of parts that do not read text, which the text model of a checkpoint for more leaves out.
_OTHER_PARTS = re.compile(r"(^|\.)(vision|visual|image|audio|video|speech|multi_modal|mm_|mtp|embed_(vision|audio))")
# Constants that earlier releases of transformers stored for GPT-2, GPT-Neo, GPT-J and others: masks and rotary angles.
_OLD_BUFFERS = re.compile(r"(^|\.)(attn|attention)\.(masked_)?bias$|(^|\.)rotary_emb\.inv_freq$")


def checkpoint_files(path: str, revision: str | None, name: str) -> list[Path]:
    """Return the safetensors files that hold the weights of a model, after a look at their headers.

    Args:
        path: a model folder, or OWNER/NAME on the Hugging Face hub, whose files are downloaded.
        revision: branch, tag or commit on the hub; None for a folder.
        name: name of the model in error messages.

    Raises:
        ModelError: the folder holds an adapter, or pickles alone; a shard is missing, two shards hold the same weight,
            or weights are quantized without a word of it in config.json.
        SafetensorError, OSError: a file cannot be read.
    """
    folder = model_folder(path, revision)
    if (folder / "adapter_config.json").is_file():
        raise ModelError(f"{name}: holds an adapter (adapter_config.json); name the model that it was trained on")
    if not (folder / _INDEX).is_file():
        require_safetensors(folder, _SINGLE, name)
    try:
        files, config = _weight_files(folder), read_json_object(folder / "config.json")
    except JsonFileError as error:
        raise ModelError(f"{name}: its files of settings cannot be read: {error}; fetch the model again") from error
    if config.get("transformers_weights"):
        raise ModelError(
            f"{name}: config.json names a file of weights (transformers_weights); call it {_SINGLE} instead"
        )
    if missing := [file.name for file in files if file.parent != folder or not file.is_file()]:
        raise ModelError(
            f"{name}: cannot be loaded: {_INDEX} names {listed(missing)}, which are missing; fetch it again"
        )
    found: Counter[str] = Counter()
    for file in files:
        with safe_open(file, framework="pt") as shard:
            types = {key: shard.get_slice(key).get_dtype() for key in shard.keys()}  # noqa: SIM118  # a shard is no mapping
        found.update(types.keys())
        odd = [key for key, kind in types.items() if kind not in _FLOATS and key.rsplit(".", 1)[-1] not in _MASKS]
        if odd and not config.get("quantization_config"):
            raise ModelError(
                f"{name}: cannot be loaded: {listed(odd)} have type {types[odd[0]]}, and config.json has no "
                "quantization_config that says what such numbers mean; fetch the model again"
            )
    if doubled := [key for key, count in found.items() if count > 1]:
        raise ModelError(f"{name}: cannot be loaded: several shards hold {listed(doubled)}; fetch the model again")
    return files


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
    folder = model_folder(path, revision)
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


def model_folder(path: str, revision: str | None, more: Sequence[str] = ()) -> Path:
    """Return the folder of a model; of one on the hub, download configuration and weights, and files like ``more``.

    Args:
        path: a model folder, or OWNER/NAME on the Hugging Face hub.
        revision: branch, tag or commit on the hub; None for a folder.
        more: patterns of the names of further files to download.
    """
    if Path(path).is_dir():
        return Path(path)
    patterns = ["*config.json", "model.safetensors", "model.safetensors.index.json", "model-*-of-*.safetensors", *more]
    return Path(snapshot_download(path, revision=revision, allow_patterns=patterns))


def misshapen_weights(model: PreTrainedModel) -> tuple[str, ...]:
    """Return the names of NF4 weights whose shapes do not fit the architecture; transformers does not check these."""
    return tuple(
        f"{name}.weight"
        for name, module in model.named_modules()
        if (state := getattr(getattr(module, "weight", None), "quant_state", None)) is not None
        and tuple(state.shape) != (module.out_features, module.in_features)
    )


def unused_weights(loading_info: Mapping[str, Any]) -> list[str]:
    """Return the names of weights in the files for which the model has no place: it would be another model."""
    names = sorted(loading_info["unexpected_keys"])
    return [name for name in names if not (_OTHER_PARTS.search(name) or _OLD_BUFFERS.search(name))]


def nonfinite_weights(model: nn.Module, files: list[Path], *, quantizes: bool) -> list[str]:
    """Return the names of weights that hold NaN or infinity.

    Args:
        model: the loaded model.
        files: the files that it was loaded from.
        quantizes: whether it was quantized while it was loaded, which can hide NaN; the files are read again then.
    """
    names = [name for name, weight in _weights(model, files, quantizes) if not is_finite(weight)]
    if quantizes:
        give_back_memory()
    return names


def _weights(model: nn.Module, files: list[Path], quantizes: bool) -> Iterator[tuple[str, Any]]:
    """Yield each weight by name: from the model, and where it was quantized from the files."""
    plain = {name: weight for name, weight in model.named_parameters() if not quantizes or weight.is_floating_point()}
    yield from plain.items()
    for file in files if quantizes else ():
        with safe_open(file, framework="pt", backend="pread") as shard:
            for name in shard.keys():  # noqa: SIM118  # a shard is no mapping
                if name not in plain:
                    yield name, shard.get_tensor(name)


def _weight_files(folder: Path) -> list[Path]:
    """Return the single file, or the shards that the index names.

    Raises:
        JsonFileError: the index cannot be read.
    """
    single, index = folder / _SINGLE, folder / _INDEX
    if single.is_file():
        return [single]
    if not index.is_file():
        return []
    shards = read_json_object(index).get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(shard, str) for shard in shards.values()):
        raise JsonFileError(f"{_INDEX} has no weight_map from names to files")
    return [folder / shard for shard in sorted(set(shards.values()))]


def _generation_config(folder: Path) -> Any:
    if (folder / "generation_config.json").is_file():
        return GenerationConfig.from_pretrained(folder)
    # Older models keep the generation settings in config.json.
    return GenerationConfig.from_pretrained(folder, config_file_name="config.json", _from_model_config=True)
