"""``model.generate``: the model writes its answer, greedily, in left-padded batches."""

import time
from typing import Any

import torch
from transformers import AutoModelForCausalLM, GenerationConfig

from benchmarks.contestants.base import Contestant, mean_length
from benchmarks.entries import Measured
from whinchat.prompts.batching import by_length

BATCH_SIZE = 32


class Generation(Contestant):
    """Rounds of ``generate``; the model has no adapter, as after merging.

    ``dtype``: of the weights. ``new_tokens``: written for each text: 16 for a model that does not know when to stop, 2
    for a model that writes a label and ends its turn.
    """

    def load(self) -> None:
        path, dtype = self.load_tokenizer(), self.options.get("dtype", "float32")
        pad, end = self.tokenizer.pad_token_id, self.tokenizer.eos_token_id
        self.pad = end if pad is None else pad
        self.model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, dtype)).eval()
        tokens = self.options.get("new_tokens", 16)
        self.config = GenerationConfig(
            do_sample=False, min_new_tokens=tokens, max_new_tokens=tokens, pad_token_id=self.pad, eos_token_id=end
        )
        self.facts = {"weights": dtype, "new_tokens": tokens, "mean_prompt_tokens": mean_length(self.prompts())}

    def run(self, *, warm_up: bool = False) -> Measured:
        prompts = self.prompts(warm_up=warm_up)
        started = time.perf_counter()
        new_tokens = 0
        with torch.inference_mode():
            for batch in by_length([len(prompt) for prompt in prompts], BATCH_SIZE):
                ids, mask = self._left_padded([prompts[row] for row in batch])
                output = self.model.generate(input_ids=ids, attention_mask=mask, generation_config=self.config)
                new_tokens = output.shape[1] - ids.shape[1]
        return Measured(len(prompts), time.perf_counter() - started, {"new_tokens": new_tokens})

    def _left_padded(self, prompts: list[Any]) -> tuple[torch.Tensor, torch.Tensor]:
        width = max(map(len, prompts))
        ids = torch.tensor([[*[self.pad] * (width - len(prompt)), *prompt] for prompt in prompts])
        mask = torch.tensor([[*[0] * (width - len(prompt)), *[1] * len(prompt)] for prompt in prompts])
        return ids, mask
