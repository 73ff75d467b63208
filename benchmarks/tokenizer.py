"""A tokenizer of Llama's family, trained on the benchmark's own tweets: TinyLlama's cannot be had here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors, trainers
from tokenizers.models import BPE

# TinyLlama-1.1B-Chat-v1.0's own template, letter for letter.
ZEPHYR = (
    "{% for message in messages %}\n{% if message['role'] == 'user' %}\n"
    "{{ '<|user|>\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'system' %}\n"
    "{{ '<|system|>\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'assistant' %}\n"
    "{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}\n"
    "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}"
)
TOKENS_A_TEXT = 30
# From small to large; more pieces make shorter texts, and all stay below TinyLlama's 32,000.
VOCABULARIES = (1000, 1500, 2000, 3000, 4000, 6000, 8000, 12000, 16000)
_TRAINED_ON = 4000
_WORDS = ("negative", "neutral", "positive", "system", "user", "assistant")


def llama_tokenizer(folder: Path, texts: Sequence[str], frames: Sequence[str] = ()) -> int:
    """Save a tokenizer under which a text of ``texts`` comes to about 30 tokens; returns its vocabulary size.

    Args:
        folder: where ``tokenizer.json`` and ``tokenizer_config.json`` go.
        texts: what it is trained on and measured against.
        frames: further texts to learn well, such as the instruction.
    """
    sample = list(texts[:_TRAINED_ON])
    corpus = [*sample, *[line for frame in (*frames, " ".join(_WORDS)) for line in [frame] * 50]]
    for vocabulary in VOCABULARIES:
        tokenizer = _trained(corpus, vocabulary)
        lengths = [len(one.ids) for one in tokenizer.encode_batch(sample[:500], add_special_tokens=False)]
        if sum(lengths) / len(lengths) <= TOKENS_A_TEXT:
            break
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(_SETTINGS, indent=1), encoding="utf-8")
    return int(tokenizer.get_vocab_size())


def _trained(corpus: Sequence[str], vocabulary: int) -> Tokenizer:
    """Sentencepiece-style BPE with byte fallback; "▁" stands before a word and may be part of its first piece."""
    trained = Tokenizer(BPE())
    trained.normalizer = normalizers.Replace(" ", "▁")
    trained.pre_tokenizer = pre_tokenizers.Split(Regex("▁*[^▁\n]*"), behavior="isolated")
    trained.train_from_iterator(
        (f" {line}" for text in corpus for line in text.split("\n")),
        trainers.BpeTrainer(vocab_size=vocabulary, show_progress=False),
    )
    model = json.loads(trained.to_str())["model"]
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += [piece for piece in sorted(model["vocab"], key=model["vocab"].__getitem__) if piece not in pieces]
    merges = [tuple(merge) for merge in model["merges"]]
    vocabulary_of = {piece: at for at, piece in enumerate(pieces)}
    tokenizer = Tokenizer(BPE(vocabulary_of, merges, byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    return tokenizer


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
    "tokenizer_class": "LlamaTokenizer",
    "use_default_system_prompt": False,
    "chat_template": ZEPHYR,
}
