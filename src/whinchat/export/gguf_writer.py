"""Write a merged model as GGUF files, for llama.cpp and the programs built on it.

Names, metadata keys and quantization come from llama.cpp's own package ``gguf``. V: size of the vocabulary.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import gguf
import numpy as np
from gguf.constants import GGML_QUANT_VERSION
from gguf.quants import quantize
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from whinchat.errors import ModelError
from whinchat.prompts.template import PromptTemplate

# llama.cpp treats both as one architecture.
_ARCHITECTURES = ("llama", "mistral")
_QUANTIZATIONS = (
    ("f16", gguf.GGMLQuantizationType.F16, gguf.LlamaFileType.MOSTLY_F16),
    ("q8_0", gguf.GGMLQuantizationType.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
)
_BYTE = re.compile("<0x[0-9A-F]{2}>")
_ALTERNATIVE = "export merged, and convert that with llama.cpp's convert_hf_to_gguf.py"


@dataclass(frozen=True)
class TokenizerFamily:
    """The settings with which llama.cpp tokenizes like a tokenizer of transformers.

    Attributes:
        model: "gpt2" for byte-level BPE, "llama" for the BPE of sentencepiece.
        pre: llama.cpp's name of the pre-tokenizer.
        blank: which pieces of text between control tokens get a blank in front.
    """

    model: Literal["gpt2", "llama"]
    pre: str
    blank: Literal["never", "first", "always"]


def tokenizer_family(tokenizer: PreTrainedTokenizerFast) -> TokenizerFamily | None:
    """Return the settings for a tokenizer whose steps were compared with llama.cpp's; None for any other tokenizer."""
    stored = json.loads(tokenizer.backend_tokenizer.to_str())
    model = stored["model"]
    if model["type"] != "BPE" or model["ignore_merges"]:
        return None
    match model["byte_fallback"], _steps(stored["normalizer"]), _steps(stored["pre_tokenizer"]):
        # In sentencepiece, the normalizer or the pre-tokenizer replaces blanks by "▁", and may put one in front.
        case True, [{"type": "Prepend"}, {"type": "Replace"}], []:
            return TokenizerFamily("llama", "default", "always")
        case True, [], [{"type": "Metaspace", "replacement": "▁", "split": False, "prepend_scheme": "first"}]:
            return TokenizerFamily("llama", "default", "first")
        # llama.cpp's "gpt-2" is the pattern of ByteLevel; its "smollm" splits digits before that.
        case False, [], [*digits, {"type": "ByteLevel", "use_regex": True, "add_prefix_space": False}]:
            if not digits:
                return TokenizerFamily("gpt2", "gpt-2", "never")
            if digits == [{"type": "Digits", "individual_digits": True}]:
                return TokenizerFamily("gpt2", "smollm", "never")
    return None


def _steps(stored: dict[str, Any] | None) -> list[dict[str, Any]]:
    if stored is None:
        return []
    steps: list[dict[str, Any]] = stored.get("normalizers") or stored.get("pretokenizers") or [stored]
    return steps


def require_convertible(config: Any, template: PromptTemplate, model: str) -> TokenizerFamily:
    """Check that the model can be written as GGUF, and return the settings of its tokenizer.

    Args:
        config: configuration of the model.
        template: its prompt template, which holds the tokenizer.
        model: its name, for error messages.

    Raises:
        ModelError: the architecture, the position encoding or the tokenizer was not compared with llama.cpp's.
    """
    if config.model_type not in _ARCHITECTURES:
        fault = f"supports {' and '.join(_ARCHITECTURES)}, not {config.model_type}"
    elif (scaling := config.rope_parameters["rope_type"]) != "default":
        fault = f"does not support positions scaled by {scaling!r}"
    elif (window := getattr(config, "sliding_window", None)) and window <= template.max_prompt_tokens:
        fault = f"does not support a sliding window of {window} tokens, shorter than backbone.max_prompt_tokens"
    elif (family := tokenizer_family(template.tokenizer)) is not None:
        return family
    else:
        fault = "the steps of this tokenizer were not compared with llama.cpp's, so texts might get other tokens there"
    raise ModelError(f"{model}: gguf: {fault}; {_ALTERNATIVE}")


def gguf_paths(stem: str, folder: Path) -> list[Path]:
    """Return the paths of the files that ``write_gguf`` writes."""
    return [folder / f"{stem}-{name}.gguf" for name, _, _ in _QUANTIZATIONS]


def write_gguf(
    model: PreTrainedModel,
    template: PromptTemplate,
    family: TokenizerFamily,
    chat_template: str,
    stem: str,
    folder: Path,
) -> list[Path]:
    """Write the model in float16 and in Q8_0, and return ``gguf_paths``.

    Args:
        model: the merged model, in float32 on the CPU.
        template: its prompt template.
        family: settings of its tokenizer.
        chat_template: the chat template for programs that read the one in the file, such as llama-server.
        stem: beginning of the file names.
        folder: the folder to write to.
    """
    paths = gguf_paths(stem, folder)
    for path, (_, kind, file_type) in zip(paths, _QUANTIZATIONS, strict=True):
        writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[gguf.MODEL_ARCH.LLAMA])
        writer.add_name(stem)
        writer.add_file_type(file_type)
        writer.add_quantization_version(GGML_QUANT_VERSION)
        _add_shape(writer, model.config)
        _add_tokenizer(writer, template, family, model.config.vocab_size)
        writer.add_chat_template(chat_template)
        _write_tensors(writer, model, kind)
    return paths


def _add_shape(writer: gguf.GGUFWriter, config: Any) -> None:
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


def _add_tokenizer(writer: gguf.GGUFWriter, template: PromptTemplate, family: TokenizerFamily, size: int) -> None:
    own = template.tokenizer
    merges = [tuple(pair) for pair in json.loads(own.backend_tokenizer.to_str())["model"]["merges"]]
    pieces, kinds = _token_list(own, family, size)
    writer.add_tokenizer_model(family.model)
    writer.add_tokenizer_pre(family.pre)
    writer.add_token_list(pieces)
    writer.add_token_types(kinds)
    if family.model == "gpt2":
        writer.add_token_merges([" ".join(pair) for pair in merges])
    else:
        # BPE merges in the order of its list; llama.cpp merges the pair whose piece has the highest score.
        ranks: dict[str, int] = {}
        for rank, pair in enumerate(merges):
            ranks.setdefault("".join(pair), rank)
        writer.add_token_scores([-float(ranks.get(piece, len(merges))) for piece in pieces])
        writer.add_add_space_prefix(family.blank == "always")
    writer.add_add_bos_token(template.adds_bos)
    writer.add_add_eos_token(False)
    # Programs stop at this token; the tokenizer's own end-of-text token may be another one.
    writer.add_eos_token_id(template.end_of_turn)
    if own.bos_token_id is not None:
        writer.add_bos_token_id(own.bos_token_id)
    if own.unk_token_id is not None:
        writer.add_unk_token_id(own.unk_token_id)
    if own.pad_token_id is not None:
        writer.add_pad_token_id(own.pad_token_id)


def _token_list(own: PreTrainedTokenizerFast, family: TokenizerFamily, size: int) -> tuple[list[str], list[int]]:
    """Return the text and the type of every token, (V,), including ids that the tokenizer does not use."""
    vocabulary = {token: piece for piece, token in own.get_vocab().items()}
    added = own.added_tokens_decoder
    pieces = [vocabulary.get(token, f"[PAD{token}]") for token in range(size)]
    kinds = []
    for token, piece in enumerate(pieces):
        kind = gguf.TokenType.NORMAL
        if token not in vocabulary:
            kind = gguf.TokenType.UNUSED
        elif family.model == "llama" and token == own.unk_token_id:
            kind = gguf.TokenType.UNKNOWN
        elif token in added:
            kind = gguf.TokenType.CONTROL if added[token].special else gguf.TokenType.USER_DEFINED
        elif family.model == "llama" and _BYTE.fullmatch(piece):
            kind = gguf.TokenType.BYTE
        kinds.append(kind)
    return pieces, kinds


def _write_tensors(writer: gguf.GGUFWriter, model: PreTrainedModel, default: gguf.GGMLQuantizationType) -> None:
    """Write tensor by tensor, so that memory never holds a second model."""
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, model.config.num_hidden_layers)
    parameters = dict(model.named_parameters())  # a tied output layer is listed once
    kinds = {name: _quantization_type(tensor, default) for name, tensor in parameters.items()}
    for name, tensor in parameters.items():
        block, size = gguf.GGML_QUANT_SIZES[kinds[name]]
        gguf_name = names.get_name(name, try_suffixes=(".weight", ".bias"))
        # The quantization determines the element type; the dtype here only must not be a type of bytes.
        dtype, byte_count = np.dtype(np.float16), tensor.numel() // block * size
        writer.add_tensor_info(gguf_name, tensor.shape, dtype, byte_count, raw_dtype=kinds[name])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for name, tensor in parameters.items():
        writer.write_tensor_data(quantize(_permuted(name, tensor, model.config).numpy(), kinds[name]))
    writer.close()


def _quantization_type(tensor: Tensor, default: gguf.GGMLQuantizationType) -> gguf.GGMLQuantizationType:
    """Choose as llama.cpp's converter does: norms in float32, rows that blocks do not divide evenly in float16."""
    if tensor.ndim == 1:
        return gguf.GGMLQuantizationType.F32
    block, _ = gguf.GGML_QUANT_SIZES[default]
    return default if tensor.shape[-1] % block == 0 else gguf.GGMLQuantizationType.F16


def _permuted(name: str, tensor: Tensor, config: Any) -> Tensor:
    """Reorder the rows of queries and keys: rotary embeddings pair neighbouring rows of a head in llama.cpp, and rows
    half a head apart in transformers."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    data: Tensor = tensor.detach().float()
    if count := heads.get(name.split(".")[-2]):
        data = data.unflatten(0, (count, 2, -1)).transpose(1, 2).flatten(0, 2).contiguous()
    return data
