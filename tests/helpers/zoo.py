"""Tiny random models of the architectures that transformers has; ``zoo.yaml`` holds their configurations.

No weight, bias or buffer has a neutral value, so that a step which is left out shows in the logits.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
)
from transformers.pytorch_utils import Conv1D

from tests.helpers.chat_templates import styled_tokenizer
from tests.helpers.tiny_models import chatml_tokenizer

VOCABULARY = 496
_NO_DROPOUT = ("attention_dropout", "hidden_dropout", "resid_pdrop", "embd_pdrop", "attn_pdrop", "dropout")


@dataclass(frozen=True)
class ZooModel:
    """One architecture.

    Attributes:
        name: what tables and tests call the model.
        model_type: of transformers, which names the configuration class.
        fields: of the configuration, or of ``text_config`` where the configuration is composite.
        outer: the other fields of a composite configuration; None where it is not composite.
        style: of the chat template and its tokens, from ``STYLES``; None for ChatML.
    """

    name: str
    model_type: str
    fields: dict[str, Any]
    outer: dict[str, Any] | None
    style: str | None = None

    def config(self, eos: int = 2) -> Any:
        """Return a fresh configuration."""
        fields = {
            **dict.fromkeys(_NO_DROPOUT, 0.0), "residual_dropout": 0.0, "vocab_size": VOCABULARY,
            "bos_token_id": 1, "eos_token_id": eos, "pad_token_id": 0, **self.fields,
        }  # fmt: skip
        if self.outer is None:
            return AutoConfig.for_model(self.model_type, **fields)
        text_type = {"mistral3": "ministral3"}.get(self.model_type, f"{self.model_type}_text")
        return AutoConfig.for_model(self.model_type, text_config={"model_type": text_type, **fields}, **self.outer)

    def build(self, *, seed: int = 11, eos: int = 2) -> PreTrainedModel:
        """Return a random model in float32 and evaluation mode, of the class that is published for the architecture."""
        torch.manual_seed(seed)
        kind: Any = AutoModelForCausalLM if self.outer is None else AutoModelForImageTextToText
        model: PreTrainedModel = kind.from_config(self.config(eos), dtype=torch.float32)
        _stir(model)
        return model.eval()

    def save(self, folder: Path, *, seed: int = 11) -> Path:
        """Save model and tokenizer to ``folder``."""
        if self.style is None:
            chatml_tokenizer(folder)
        else:
            styled_tokenizer(self.style, folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = self.build(seed=seed, eos=tokenizer.eos_token_id)
        model.generation_config = GenerationConfig(
            bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id
        )
        model.save_pretrained(folder)
        return folder


def _read() -> dict[str, ZooModel]:
    entries = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
    return {
        name: ZooModel(name, fields.pop("type"), fields, fields.pop("outer", None), fields.pop("style", None))
        for name, fields in ((name, dict(entry)) for name, entry in entries.items() if not name.startswith("."))
    }


ZOO = _read()


def _stir(model: nn.Module) -> None:
    """Give every weight, bias and buffer a value that is neither neutral nor tiny."""
    with torch.no_grad():
        for module in model.modules():
            for name, weight in module.named_parameters(recurse=False):
                if isinstance(module, nn.Embedding):
                    weight.normal_()
                elif isinstance(module, nn.Linear | Conv1D) and weight.ndim == 2:
                    inputs = weight.shape[0 if isinstance(module, Conv1D) else 1]
                    weight.normal_(std=1.2 / inputs**0.5)
                elif weight.ndim > 1 and "log" not in name and "time_" not in name:
                    weight.normal_(std=0.25)
                else:
                    weight.add_(torch.empty_like(weight).uniform_(-0.3, 0.3))
            for name, buffer in module.named_buffers(recurse=False):
                if name.endswith(("correction_bias", "expert_bias")):
                    buffer.uniform_(0.0, 0.2)
