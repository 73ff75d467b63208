"""Tokenizers of Llama's family, trained on a few texts: sentencepiece-style BPE with byte fallback.

The tests' tiny models and the benchmarks' model shapes use them in the place of TinyLlama's own tokenizer.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors, trainers
from tokenizers.models import BPE

# The template of TinyLlama-1.1B-Chat-v1.0, letter for letter.
ZEPHYR = (
    "{% for message in messages %}\n{% if message['role'] == 'user' %}\n"
    "{{ '<|user|>\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'system' %}\n"
    "{{ '<|system|>\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'assistant' %}\n"
    "{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}\n"
    "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}"
)
_SETTINGS: dict[str, Any] = {
    "add_bos_token": True,
    "add_eos_token": False,
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "pad_token": "</s>",
    "padding_side": "right",
    "clean_up_tokenization_spaces": False,
    "legacy": False,
    "model_max_length": 2048,
    "sp_model_kwargs": {},
    "tokenizer_class": "LlamaTokenizer",
    "use_default_system_prompt": False,
}


def train_llama_tokenizer(lines: Iterable[str], learned_pieces: int) -> Tokenizer:
    """Train a tokenizer on ``lines``; 3 special tokens and 256 bytes are added to the learned pieces.

    "▁" stands for a blank. Words learn their pieces with and without it; a new line is a byte, as in Llama's own
    vocabulary.
    """
    trained = Tokenizer(BPE())
    trained.normalizer = normalizers.Replace(" ", "▁")
    trained.pre_tokenizer = pre_tokenizers.Split(Regex("▁*[^▁\n]*"), behavior="isolated")
    trained.train_from_iterator(lines, trainers.BpeTrainer(vocab_size=learned_pieces, show_progress=False))
    model = json.loads(trained.to_str())["model"]
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += [piece for piece in sorted(model["vocab"], key=model["vocab"].__getitem__) if piece not in pieces]
    merges = [tuple(merge) for merge in model["merges"]]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(BPE(vocabulary, merges, byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    return tokenizer


def save_llama_tokenizer(tokenizer: Tokenizer, folder: Path, template: str | None = ZEPHYR) -> None:
    """Save a tokenizer to ``folder``, with a chat template or without."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = _SETTINGS | ({} if template is None else {"chat_template": template})
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1), encoding="utf-8")
