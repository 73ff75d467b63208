"""Convert a GGUF file to a folder of safetensors and tokenizer, once for each file."""

import logging
import os
from pathlib import Path

import torch
from gguf import GGUFReader
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer

from whinchat.errors import ModelError
from whinchat.models.model_cache import cached_model_path, find_cached_model, write_cached_model

# Raise this number when the conversion changes: folders of another version are left alone, and a new one is made.
_VERSION = 1

# GGUF names of the pre-tokenizers whose token ids were compared with llama.cpp's (tests/models/test_gguf_import.py).
# transformers keeps the byte-level step of a pre-tokenizer and drops whatever its name adds to that.
_TESTED_PRE_TOKENIZERS = {"smollm"}


def converted_folder(gguf: Path) -> Path:
    """Return the folder that ``gguf`` is converted to, and convert it first where the cache lacks it or has it damaged.

    Raises:
        ModelError: the token ids of the file's pre-tokenizer were never compared with llama.cpp's.
        OutputError: the folder cannot be written.
    """
    name = _folder_name(gguf)
    return find_cached_model(name) or write_cached_model(name, lambda target: _convert(gguf, target))


def conversion_target(gguf: Path) -> Path:
    """Return the folder that ``converted_folder`` writes for ``gguf``, whether or not it exists yet."""
    return cached_model_path(_folder_name(gguf))


def _folder_name(gguf: Path) -> str:
    return f"{gguf.stem}-v{_VERSION}"


def _convert(gguf: Path, target: Path) -> None:
    field = GGUFReader(gguf).get_field("tokenizer.ggml.pre")
    pre = field.contents() if field is not None else None
    if pre not in _TESTED_PRE_TOKENIZERS:
        raise ModelError(
            f"{gguf}: its pre-tokenizer {pre!r} was never compared with llama.cpp's, so the token ids may be wrong; "
            "use the model's folder of safetensors instead"
        )
    folder, name = os.fspath(gguf.parent), gguf.name
    logging.getLogger("whinchat").info("Converting %s to safetensors (once)", name)
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name, trust_remote_code=False)
    # "smollm" splits digits one by one before the byte-level step. transformers drops that step, and numbers would get
    # tokens that the model never saw in training.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.save_pretrained(target)
    read = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32, trust_remote_code=False)
    # The weights are dequantized now, but transformers still marks the model as quantized and refuses to save it.
    # Therefore the weights move to a model of the same shape without that mark.
    del read.config.quantization_config
    plain = AutoModelForCausalLM.from_config(read.config, dtype=torch.float32, trust_remote_code=False)
    plain.load_state_dict(read.state_dict())
    plain.generation_config = read.generation_config
    plain.save_pretrained(target)
