"""Tiny encoders with random weights, as folders of transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import BertConfig, BertModel, BertTokenizer, DistilBertConfig, DistilBertModel

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "rain", "tea", "sun", "the", "day", "at", "station", "is"]


def tiny_bert(folder: Path, **config: Any) -> Path:
    """Write a BERT of two layers and 32 hidden units that knows the clues of ``tiny_models.toy_rows``."""
    save_words(folder)
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "vocab_size": len(WORDS), "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 64, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
        # With BERT's own 0.02, all texts would have nearly the same embedding.
        "initializer_range": 0.3,
    }  # fmt: skip
    BertModel(BertConfig(**settings | config)).save_pretrained(folder)
    return folder


def tiny_distilbert(folder: Path) -> Path:
    """Write a DistilBERT, whose classification head has a layer before the last one."""
    save_words(folder)
    torch.manual_seed(0)
    config = DistilBertConfig(vocab_size=len(WORDS), dim=32, n_layers=2, n_heads=4, hidden_dim=64)
    DistilBertModel(config).save_pretrained(folder)
    return folder


def save_words(folder: Path) -> None:
    """Write a tokenizer of ``WORDS``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(WORDS), encoding="utf-8")
    BertTokenizer(vocab=str(folder / "vocab.txt")).save_pretrained(folder)


def write_pooling(folder: Path, settings: dict[str, Any], *modules: str) -> None:
    """Write the settings of sentence-transformers: a pooling, and the names of modules besides."""
    names = ["Transformer", "Pooling", *modules]
    entries = [
        {"idx": index, "name": str(index), "path": f"{index}_{name}" if index else "", "type": f"models.{name}"}
        for index, name in enumerate(names)
    ]
    (folder / "modules.json").write_text(json.dumps(entries), encoding="utf-8")
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(settings), encoding="utf-8")
