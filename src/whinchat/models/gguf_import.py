"""From a GGUF file to a folder of safetensors and tokenizer, once."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from pathlib import Path

import torch
from gguf import GGUFReader
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer

from whinchat.errors import ModelError

# Raise when the conversion changes: folders of another version are left alone and made anew.
_VERSION = 1

# Pre-tokenizers whose ids were compared with llama.cpp's (tests/model/test_gguf.py), by their GGUF name. transformers
# keeps the byte-level step and drops what the name adds to it.
_PROVEN = {"smollm"}


def converted_folder(gguf: Path, cache: Path) -> Path:
    """The folder for ``gguf`` under ``cache``, converted now if it is not there yet.

    The folder appears whole or not at all, and two processes may ask for it at once.

    Raises:
        ModelError: the file's tokenizer is of a kind whose ids were never compared with llama.cpp's.
    """
    target = cache / f"{gguf.stem}-v{_VERSION}"
    if (target / "config.json").is_file():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=cache))
    try:
        _convert(gguf, work)
        try:
            work.rename(target)
        except OSError:
            # Another process was first; its folder is the same.
            if not (target / "config.json").is_file():
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target


def _convert(gguf: Path, target: Path) -> None:

    field = GGUFReader(gguf).get_field("tokenizer.ggml.pre")
    pre = field.contents() if field is not None else None
    if pre not in _PROVEN:
        raise ModelError(f"{gguf}: tokenizer of kind {pre!r} was never compared with llama.cpp's; use a hub folder")
    folder, name = os.fspath(gguf.parent), gguf.name
    logging.getLogger("whinchat").info("Converting %s to safetensors (once)", name)
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    # "smollm" splits digits one by one before the byte-level step; transformers drops that, and numbers would get
    # tokens the model never saw.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.save_pretrained(target)
    read = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
    # The weights are plain now, yet transformers takes what it read from a GGUF file for quantized and will not save
    # it: they move to a model of the same shape that knows nothing of the file.
    del read.config.quantization_config
    plain = AutoModelForCausalLM.from_config(read.config, dtype=torch.float32)
    plain.load_state_dict(read.state_dict())
    plain.generation_config = read.generation_config
    plain.save_pretrained(target)
