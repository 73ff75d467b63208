"""Traits by which an adapter's backbone is recognized, so that the adapter is not put on another model of its shape.

``base_model.json`` in an adapter's folder holds a few of the backbone's weights and the settings that change what the
model computes. Weights are compared as numbers, not as bytes: a copy in another data type, or in other shards, is the
same model. A folder of version 0.1 has no such file.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self
from zlib import crc32

import torch
from transformers import PreTrainedModel

from whinchat.errors import ModelError
from whinchat.models.json_files import JsonFileError, read_json_object
from whinchat.models.weight_checks import listed

BASE_MODEL_FILE = "base_model.json"
# Safetensors' names of data types; tensors of other types are passed over.
_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}  # fmt: skip
_MOST_TENSORS = 512
_NUMBERS_A_TENSOR = 4
# float16 and bfloat16 keep at least 8 bits of a number, and float16 rounds small ones to multiples of 6e-8.
_RELATIVE, _ABSOLUTE = 2**-8, 1e-7
# Settings in config.json with which the same weights would compute something else. Shapes are checked with the weights.
_SETTINGS = re.compile(
    r"rope|rotary|alibi|eps(ilon)?$|act(ivation)?(_fn|_function)?$|softcap|multiplier|_scal(e|ar|ing)|sliding|window|"
    r"layer_types|^(num_hidden_layers|num_layers|n_layers?)$|experts_per_tok|norm_topk|tie_word|num_(attention|key_value)_heads"
)


@dataclass(frozen=True)
class BackboneTraits:
    """What tells a model from others of the same shapes.

    Attributes:
        settings: the settings of its configuration that change what it computes, as plain JSON types.
        weights: name of a tensor in its files -> some of its numbers.
    """

    settings: Mapping[str, Any]
    weights: Mapping[str, Sequence[float]]

    @classmethod
    def read(cls, model: PreTrainedModel, files: Sequence[Path]) -> Self:
        """Read the traits of a loaded model; of its weights, a few numbers in ``files``.

        Raises:
            OSError: a file cannot be read.
        """
        settings = {key: value for key, value in model.config.to_dict().items() if _SETTINGS.search(key)}
        return cls(json.loads(json.dumps(settings, default=str)), _sample(files))

    def save(self, folder: Path) -> None:
        """Write the traits beside an adapter that was trained on the model."""
        lines = ",\n".join(
            f"  {json.dumps(name)}: {json.dumps(list(numbers))}" for name, numbers in self.weights.items()
        )
        settings = json.dumps(self.settings, sort_keys=True)
        (folder / BASE_MODEL_FILE).write_text(
            f'{{\n"settings": {settings},\n"weights": {{\n{lines}\n}}\n}}\n', encoding="utf-8"
        )

    def check(self, folder: Path, name: str) -> None:
        """Check that the adapter in ``folder`` was trained on this model; one of version 0.1 passes.

        Args:
            folder: the folder of the adapter.
            name: name of this model, for the message.

        Raises:
            ModelError: the adapter was trained on another model, or its base_model.json is damaged.
        """
        if not (folder / BASE_MODEL_FILE).is_file():
            return
        trained = _read(folder)
        known = [key for key in self.weights if key in trained.weights]
        differences = [
            *(
                key
                for key in sorted(self.settings)
                if not _equal(self.settings[key], trained.settings.get(key, self.settings[key]))
            ),
            *(key for key in known if not all(map(_close, self.weights[key], trained.weights[key]))),
            *(sorted(trained.weights)[:1] if len(known) < len(trained.weights) / 2 else ()),
        ]
        if differences:
            raise ModelError(
                f"{folder}: was trained on another model than {name}, or on another version of it, and would answer "
                f"wrongly: {listed(differences)} differ; set backbone.model and backbone.revision in its recipe.yaml "
                "to the model that it was trained on, or train again"
            )


def _sample(files: Sequence[Path]) -> dict[str, list[float]]:
    """Return numbers at evenly spaced places of up to 512 tensors in ``files``."""
    entries = {name: (file, entry) for file in files for name, entry in _entries(file)}
    sampled = {}
    # The choice by checksums of the names hardly changes where one copy has a tensor more.
    for name in sorted(sorted(entries, key=lambda name: crc32(name.encode()))[:_MOST_TENSORS]):
        file, entry = entries[name]
        with file.open("rb") as content:
            sampled[name] = [_number(content, entry, part) for part in range(_NUMBERS_A_TENSOR)]
    return sampled


@dataclass(frozen=True)
class _Entry:
    """Where a file holds a tensor: the position of its first number, its type and its shape."""

    start: int
    dtype: torch.dtype
    shape: tuple[int, ...]


def _entries(file: Path) -> Iterator[tuple[str, _Entry]]:
    """Yield name and place of each tensor in a safetensors file, whose header the loader has checked.

    safetensors reads a whole tensor for one number of it, or maps the file into memory.
    """
    with file.open("rb") as content:
        length = int.from_bytes(content.read(8), "little")
        header = json.loads(content.read(length))
    for name, entry in header.items():
        if name != "__metadata__" and entry["dtype"] in _DTYPES and 0 not in entry["shape"]:
            start = 8 + length + entry["data_offsets"][0]
            yield name, _Entry(start, _DTYPES[entry["dtype"]], tuple(entry["shape"]))


def _number(content: BinaryIO, entry: _Entry, part: int) -> float:
    """Return one number of a tensor in a file, at a place that differs for each ``part``."""
    position = 0
    for size in entry.shape:
        position = position * size + (2 * part + 1) * size // (2 * _NUMBERS_A_TENSOR)
    content.seek(entry.start + position * entry.dtype.itemsize)
    number = torch.frombuffer(bytearray(content.read(entry.dtype.itemsize)), dtype=entry.dtype)
    return float(number.float())


def _close(found: float, trained: float) -> bool:
    return math.isclose(found, trained, rel_tol=_RELATIVE, abs_tol=_ABSOLUTE)


def _equal(found: Any, trained: Any) -> bool:
    """Return whether two settings are the same; one that another release of transformers does not know passes."""
    if isinstance(found, dict) and isinstance(trained, dict):
        return all(_equal(found[key], trained[key]) for key in found.keys() & trained.keys())
    if isinstance(found, float) and isinstance(trained, float):
        return math.isclose(found, trained, rel_tol=1e-5)  # GGUF files hold float32
    return bool(found == trained)


def _read(folder: Path) -> BackboneTraits:
    """Read ``base_model.json``; what is not as ``save`` wrote it is refused."""
    try:
        content = read_json_object(folder / BASE_MODEL_FILE)
        settings, weights = content.get("settings"), content.get("weights")
        if (
            not isinstance(settings, dict)
            or not isinstance(weights, dict)
            or not all(map(_is_sample, weights.values()))
        ):
            raise JsonFileError("it lacks settings or weights")
    except JsonFileError as error:
        raise ModelError(f"{folder / BASE_MODEL_FILE}: damaged: {error}; restore the folder from a copy") from error
    return BackboneTraits(settings, weights)


def _is_sample(value: Any) -> bool:
    return (
        isinstance(value, list) and len(value) == _NUMBERS_A_TENSOR and all(isinstance(item, float) for item in value)
    )
