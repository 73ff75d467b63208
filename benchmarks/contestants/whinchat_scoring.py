"""whinchat's own scoring, with an adapter on the model as after training."""

from __future__ import annotations

import time

import torch

from benchmarks.contestants.base import Base, mean_length
from benchmarks.protocol import Measured
from benchmarks.texts import cut_to_tokens
from whinchat.data.dataset import Split
from whinchat.evaluation.scoring import score_prompts
from whinchat.models.adapters import attach_adapter, count_parameters
from whinchat.models.backbone import load_backbone
from whinchat.models.forward import Engine
from whinchat.prompts.batching import shared_prefix


class WhinchatScoring(Base):
    """Rounds of ``score()``. Tokenizing is left out, as for every other contestant, unless ``tokenize`` is set."""

    def load(self) -> None:
        recipe = self.recipe()
        self.batch_size = recipe.evaluate.per_device_eval_batch_size
        backbone = load_backbone(recipe.backbone)
        tuned = attach_adapter(backbone.model, recipe.adapter, recipe.train.seed)
        _stir(tuned)
        total, trainable = count_parameters(tuned)
        self.engine = Engine.build(tuned, backbone.plan, backbone.tokenizer.template(recipe))
        prompts = [prompt.ids for prompt in self.engine.template.encode(self._texts().texts)]
        self._facts = {
            "load_in": backbone.plan.load_in,
            "compute_dtype": backbone.plan.compute_dtype,
            "parameters": total - trainable,  # of the model alone
            "mean_prompt_tokens": mean_length(prompts),
            "prefix_tokens": shared_prefix(prompts),
        }

    def run(self, *, warm_up: bool = False) -> Measured:
        texts = self._texts(warm_up=warm_up).texts
        started = time.perf_counter()
        prompts = self.engine.template.encode(texts)
        tokenized = time.perf_counter()
        log_probs = score_prompts(self.engine, prompts, self.batch_size)
        ended = time.perf_counter()
        assert log_probs.shape[0] == len(texts)
        return Measured(len(texts), ended - (started if self.options.get("tokenize") else tokenized))

    def _texts(self, *, warm_up: bool = False) -> Split:
        split = self.split(warm_up=warm_up)
        tokens = self.options.get("text_tokens")
        return cut_to_tokens(split, tokens, self.engine.template.tokenizer) if tokens else split


def _stir(model: torch.nn.Module) -> None:
    """Move B off zero, as training does: an adapter that changes nothing must not be one that costs nothing."""
    draw = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.01 * torch.randn(parameter.shape, generator=draw).to(parameter))
