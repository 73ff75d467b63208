"""GGUF files of a merged model, for llama.cpp and what is built on it.

Names, metadata keys and quantization are those of llama.cpp's own package ``gguf``. V: rows of the vocabulary.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from gguf import (
    GGML_QUANT_SIZES,
    MODEL_ARCH,
    MODEL_ARCH_NAMES,
    GGMLQuantizationType,
    GGUFWriter,
    LlamaFileType,
    TokenType,
    get_tensor_name_map,
)
from gguf.constants import GGML_QUANT_VERSION
from gguf.quants import quantize
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from whinchat.errors import ModelError
from whinchat.prompts.template import PromptTemplate

# Both are one architecture to llama.cpp.
_ARCHITECTURES = ("llama", "mistral")
_KINDS = (
    ("f16", GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16),
    ("q8_0", GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0),
)
_BYTE = re.compile("<0x[0-9A-F]{2}>")
_ELSEWHERE = "export merged, and convert that with llama.cpp's convert_hf_to_gguf.py"


@dataclass(frozen=True)
class TokenizerFamily:
    """How llama.cpp must tokenize to get this tokenizer's ids.

    Attributes:
        model: byte-level BPE ("gpt2"), or sentencepiece's ("llama").
        pre: llama.cpp's name of the steps before BPE.
        blank: which pieces between control tokens get a blank in front.
    """

    model: Literal["gpt2", "llama"]
    pre: str
    blank: Literal["never", "first", "always"]


def family_of(tokenizer: PreTrainedTokenizerFast) -> TokenizerFamily | None:
    """The family whose ids llama.cpp was seen to give for this tokenizer's steps, or None."""
    stored = json.loads(tokenizer.backend_tokenizer.to_str())
    model = stored["model"]
    if model["type"] != "BPE" or model["ignore_merges"]:
        return None
    normalizers, pre_tokenizers = _steps(stored["normalizer"]), _steps(stored["pre_tokenizer"])
    return (_sentencepiece if model["byte_fallback"] else _byte_level)(normalizers, pre_tokenizers)


def _steps(stored: dict[str, Any] | None) -> list[dict[str, Any]]:
    if stored is None:
        return []
    steps: list[dict[str, Any]] = stored.get("normalizers") or stored.get("pretokenizers") or [stored]
    return steps


def _sentencepiece(normalizers: list[dict[str, Any]], pre_tokenizers: list[dict[str, Any]]) -> TokenizerFamily | None:
    # Blanks become "▁" in one of two places, and the first may be put there.
    match [step["type"] for step in normalizers], pre_tokenizers:
        case ["Prepend", "Replace"], []:
            return TokenizerFamily("llama", "default", "always")
        case [], [{"type": "Metaspace", "replacement": "▁", "split": False, "prepend_scheme": "first"}]:
            return TokenizerFamily("llama", "default", "first")
    return None


def _byte_level(normalizers: list[dict[str, Any]], pre_tokenizers: list[dict[str, Any]]) -> TokenizerFamily | None:
    # llama.cpp's "gpt-2" is the pattern of ByteLevel itself, its "smollm" the same after single digits.
    match normalizers, pre_tokenizers:
        case [], [{"type": "ByteLevel", "use_regex": True, "add_prefix_space": False}]:
            return TokenizerFamily("gpt2", "gpt-2", "never")
        case [], [
            {"type": "Digits", "individual_digits": True},
            {"type": "ByteLevel", "use_regex": True, "add_prefix_space": False},
        ]:
            return TokenizerFamily("gpt2", "smollm", "never")
    return None


def require_convertible(config: Any, template: PromptTemplate, model: str) -> TokenizerFamily:
    """The tokenizer's family, once it is sure that this model can be a GGUF file.

    Raises:
        ModelError: its architecture, positions or tokenizer are none that were compared with llama.cpp's.
    """
    if config.model_type not in _ARCHITECTURES:
        raise ModelError(f"{model}: gguf: knows {' and '.join(_ARCHITECTURES)}, not {config.model_type}; {_ELSEWHERE}")
    scaling = config.rope_parameters["rope_type"]
    if scaling != "default":
        raise ModelError(f"{model}: gguf: knows no positions scaled by {scaling!r}; {_ELSEWHERE}")
    family = family_of(template.tokenizer)
    if family is None:
        raise ModelError(
            f"{model}: gguf: this tokenizer's steps were never compared with llama.cpp's, which might read texts as "
            f"other tokens; {_ELSEWHERE}"
        )
    return family


def write_gguf(
    model: PreTrainedModel,
    template: PromptTemplate,
    family: TokenizerFamily,
    chat_template: str,
    stem: str,
    folder: Path,
) -> list[Path]:
    """Write ``stem`` in float16 and in Q8_0.

    Args:
        model: merged, float32, on the CPU.
        template: its prompts.
        family: of its tokenizer.
        chat_template: what to hold for programs that read the model's own (llama-server).
        stem: of the files' names.
        folder: where to write.
    """
    paths = []
    for name, kind, stated in _KINDS:
        paths.append(folder / f"{stem}-{name}.gguf")
        writer = GGUFWriter(paths[-1], MODEL_ARCH_NAMES[MODEL_ARCH.LLAMA])
        writer.add_name(stem)
        writer.add_file_type(stated)
        writer.add_quantization_version(GGML_QUANT_VERSION)
        _add_shape(writer, model.config)
        _add_tokenizer(writer, template, family, model.config.vocab_size)
        writer.add_chat_template(chat_template)
        _write_tensors(writer, model, kind)
    return paths


def _add_shape(writer: GGUFWriter, config: Any) -> None:
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(width)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])


def _add_tokenizer(writer: GGUFWriter, template: PromptTemplate, family: TokenizerFamily, size: int) -> None:
    own = template.tokenizer
    merges = [tuple(pair) for pair in json.loads(own.backend_tokenizer.to_str())["model"]["merges"]]
    pieces, kinds = _pieces(own, family, size)
    writer.add_tokenizer_model(family.model)
    writer.add_tokenizer_pre(family.pre)
    writer.add_token_list(pieces)
    writer.add_token_types(kinds)
    if family.model == "gpt2":
        writer.add_token_merges([" ".join(pair) for pair in merges])
    else:
        # llama.cpp joins what makes the piece of the highest score, where BPE goes by the merges' order.
        ranks: dict[str, int] = {}
        for rank, pair in enumerate(merges):
            ranks.setdefault("".join(pair), rank)
        writer.add_token_scores([-float(ranks.get(piece, len(merges))) for piece in pieces])
        writer.add_add_space_prefix(family.blank == "always")
    writer.add_add_bos_token(template.adds_bos)
    writer.add_add_eos_token(False)
    # Programs stop at the end of turn, whatever the tokenizer calls the end.
    writer.add_eos_token_id(template.end_of_turn)
    for token, add in (
        (own.bos_token_id, writer.add_bos_token_id),
        (own.unk_token_id, writer.add_unk_token_id),
        (own.pad_token_id, writer.add_pad_token_id),
    ):
        if token is not None:
            add(token)


def _pieces(own: PreTrainedTokenizerFast, family: TokenizerFamily, size: int) -> tuple[list[str], list[int]]:
    """Every token and its kind, (V,), those that the tokenizer lacks included."""
    named = {token: piece for piece, token in own.get_vocab().items()}
    added = own.added_tokens_decoder
    pieces, kinds = [], []
    for token in range(size):
        piece = named.get(token, f"[PAD{token}]")
        if token not in named:
            kind = TokenType.UNUSED
        elif family.model == "llama" and token == own.unk_token_id:
            kind = TokenType.UNKNOWN
        elif token in added:
            kind = TokenType.CONTROL if added[token].special else TokenType.USER_DEFINED
        elif family.model == "llama" and _BYTE.fullmatch(piece):
            kind = TokenType.BYTE
        else:
            kind = TokenType.NORMAL
        pieces.append(piece)
        kinds.append(kind)
    return pieces, kinds


def _write_tensors(writer: GGUFWriter, model: PreTrainedModel, wanted: GGMLQuantizationType) -> None:
    """Tensor by tensor, so that no second model is held."""
    names = get_tensor_name_map(MODEL_ARCH.LLAMA, model.config.num_hidden_layers)
    held = dict(model.named_parameters())  # a tied output layer is not named a second time
    kinds = {name: _kind(tensor, wanted) for name, tensor in held.items()}
    for name, tensor in held.items():
        block, size = GGML_QUANT_SIZES[kinds[name]]
        there = names.get_name(name, try_suffixes=(".weight", ".bias"))
        # The element type is told by the quantization's name; this one only must not be bytes.
        writer.add_tensor_info(
            there, tensor.shape, np.dtype(np.float16), tensor.numel() // block * size, raw_dtype=kinds[name]
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for name, tensor in held.items():
        writer.write_tensor_data(quantize(_arranged(name, tensor, model.config).numpy(), kinds[name]))
    writer.close()


def _kind(tensor: Tensor, wanted: GGMLQuantizationType) -> GGMLQuantizationType:
    """As llama.cpp's converter has it: norms in float32, rows that a block does not divide in float16."""
    if tensor.ndim == 1:
        return GGMLQuantizationType.F32
    block, _ = GGML_QUANT_SIZES[wanted]
    return wanted if tensor.shape[-1] % block == 0 else GGMLQuantizationType.F16


def _arranged(name: str, tensor: Tensor, config: Any) -> Tensor:
    """llama.cpp turns neighbouring numbers of a head by one angle, transformers those half a head apart."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    projection = name.split(".")[-2]
    data: Tensor = tensor.detach().float()
    if projection not in heads:
        return data
    turned: Tensor = data.unflatten(0, (heads[projection], 2, -1)).transpose(1, 2).flatten(0, 2)
    return turned.contiguous()
