"""Asking the model to write its answer: ``model.generate`` on left-padded batches, greedy."""

from __future__ import annotations

import time
from typing import Any

import torch

from benchmarks.contestants.base import Base, mean_length
from benchmarks.protocol import Measured
from whinchat.models.backbone import find_model, load_tokenizer
from whinchat.prompts.batching import by_length


class Generation(Base):
    """Rounds of ``generate``; the model has no adapter, as after merging.

    ``dtype``: of the weights. ``new_tokens``: exactly so many, 16 for what a model costs that does not know when to
    stop, 2 for one that writes a label and ends its turn. ``batch_size``: 32 unless said otherwise.
    """

    def load(self) -> None:
        from transformers import AutoModelForCausalLM, GenerationConfig

        recipe = self.recipe()
        source = find_model(recipe.backbone)
        tokenizer = load_tokenizer(source)
        self.template = tokenizer.template(recipe)
        self.pad = next(
            one for one in (tokenizer.tokenizer.pad_token_id, tokenizer.tokenizer.eos_token_id) if one is not None
        )
        dtype = self.options.get("dtype", "float32")
        self.model = AutoModelForCausalLM.from_pretrained(source.path, dtype=getattr(torch, dtype)).eval()
        tokens = self.options.get("new_tokens", 16)
        self.settings = GenerationConfig(
            do_sample=False,
            min_new_tokens=tokens,
            max_new_tokens=tokens,
            pad_token_id=self.pad,
            eos_token_id=tokenizer.tokenizer.eos_token_id,
        )
        prompts = [prompt.ids for prompt in self.template.encode(self.split().texts)]
        self._facts = {"weights": dtype, "new_tokens": tokens, "mean_prompt_tokens": mean_length(prompts)}

    def run(self, *, warm_up: bool = False) -> Measured:
        prompts = [prompt.ids for prompt in self.template.encode(self.split(warm_up=warm_up).texts)]
        started = time.perf_counter()
        made = 0
        with torch.inference_mode():
            for batch in by_length([len(one) for one in prompts], self.options.get("batch_size", 32)):
                ids, mask = self._left_padded([prompts[row] for row in batch])
                output = self.model.generate(input_ids=ids, attention_mask=mask, generation_config=self.settings)
                made = output.shape[1] - ids.shape[1]
        return Measured(len(prompts), time.perf_counter() - started, {"new_tokens": made})

    def _left_padded(self, prompts: list[Any]) -> tuple[torch.Tensor, torch.Tensor]:
        width = max(map(len, prompts))
        ids = torch.tensor([[*[self.pad] * (width - len(one)), *one] for one in prompts])
        mask = torch.tensor([[*[0] * (width - len(one)), *[1] * len(one)] for one in prompts])
        return ids, mask
