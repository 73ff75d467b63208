"""whinchat's own training and scoring, through the code that ``whinchat run`` uses."""

import tempfile
from collections.abc import Callable, Sequence
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import TrainerState

from benchmarks.contestants.base import Contestant, TrainedContestant, mean_length
from whinchat.data.dataset import Split
from whinchat.evaluation.scoring import score_prompts
from whinchat.models.adapters import attach_adapter, count_parameters
from whinchat.models.backbone import load_backbone
from whinchat.models.forward import Engine
from whinchat.models.packed.packed_forward import keep_merged_weights
from whinchat.prompts.batching import shared_prefix
from whinchat.training.trainer import AnswerTrainer, training_arguments


class _Whinchat(Contestant):
    """A model with an adapter."""

    def load(self) -> None:
        backbone = load_backbone(self.recipe.backbone)
        self.tokenizer, self.template = backbone.tokenizer.tokenizer, backbone.tokenizer.template(self.recipe)
        tuned = attach_adapter(backbone.model, self.recipe.adapter, self.recipe.train.seed)
        self.engine = Engine.build(tuned, backbone.plan, self.template)
        total, trainable = count_parameters(tuned)
        prompts = super().rows(self.split())
        self.facts = {
            **{key: getattr(backbone.plan, key) for key in ("load_in", "compute_dtype", "attn_implementation")},
            "parameters": total - trainable,  # without the adapter
            "trainable_parameters": trainable,
            "mean_prompt_tokens": mean_length(prompts),
            "prefix_tokens": shared_prefix(prompts),
            "mean_answer_tokens": round(mean_length(self.template.answers) + 1, 1),
        }


class WhinchatTraining(_Whinchat, TrainedContestant):
    """Rounds of ``AnswerTrainer.train()``."""

    def trainer(self, split: Split, folder: str) -> AnswerTrainer:
        args = training_arguments(self.recipe, self.engine.plan, Path(folder))
        args.set_save(strategy="no")
        return AnswerTrainer(self.engine, self.recipe, split, None, args=args)

    def round_facts(self, state: TrainerState) -> dict[str, Any]:
        losses = [entry["loss"] for entry in state.log_history if "loss" in entry]
        return {**super().round_facts(state), "loss": losses[-1] if losses else None}

    def count_flops(self) -> float:
        """Return the operations of a round's forward and backward passes; the optimizer has no matrix products."""
        with tempfile.TemporaryDirectory() as folder:
            trainer = self.trainer(self.split(), folder)
            self.engine.model.train()

            def steps() -> None:
                for inputs in trainer.get_train_dataloader():
                    trainer.compute_loss(trainer.model, inputs).backward()
                    trainer.model.zero_grad()

            return counted(steps)


class WhinchatScoring(_Whinchat):
    """Rounds of ``score_prompts``. Tokenizing is not timed, as for all contestants, unless ``tokenize`` is set.

    ``merged``: score with merged weights, as a loaded classifier does.
    """

    def load(self) -> None:
        super().load()
        # Training moves B off zero; an adapter that changes nothing might cost nothing.
        draw = torch.Generator().manual_seed(7)
        with torch.no_grad():
            for parameter in self.engine.model.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.01 * torch.randn(parameter.shape, generator=draw).to(parameter))
        if self.options.get("merged"):
            keep_merged_weights(self.engine.model, self.engine.plan)

    def rows(self, split: Split) -> list[Any]:
        return list(split.texts if self.options.get("tokenize") else self.template.encode(split.texts))

    def answer(self, rows: list[Any]) -> None:
        prompts = self.template.encode(rows) if self.options.get("tokenize") else rows
        log_probs = score_prompts(self.engine, prompts, self.recipe.evaluate.per_device_eval_batch_size)
        assert log_probs.shape[0] == len(rows)


def counted(program: Callable[[], None]) -> float:
    """Return the operations of ``program``: 2 m n k for each product of (m, k) and (k, n), forward and backward.

    Products inside compiled code are not seen; whinchat's training and scoring have none.
    """

    def added(_added: Any, a: Sequence[int], b: Sequence[int], *_: Any, **__: Any) -> int:
        """Shapes a (..., M, K) times b (..., K, N)."""
        return 2 * prod(a) * b[-1]

    def attention(q: Sequence[int], k: Sequence[int], v: Sequence[int], *_: Any, **__: Any) -> int:
        """Scores and sums of queries (B, H, S, D), keys (B, H, L, D) and values (B, H, L, E)."""
        return 2 * prod(q[:-1]) * k[-2] * (q[-1] + v[-1])

    def backward(_gradient: Any, q: Sequence[int], k: Sequence[int], v: Sequence[int], *_: Any, **__: Any) -> int:
        """Scores once more, then the gradients of scores, values, queries and keys."""
        return 2 * prod(q[:-1]) * k[-2] * (3 * q[-1] + 2 * v[-1])

    # Products on CPUs that torch's own table lacks: in-place ones, attention, oneDNN's linear layer.
    aten, flash = torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu"
    table: dict[Any, Callable[..., int]] = {aten.addmm_: added, aten.baddbmm_: added}
    table |= {getattr(aten, flash): attention, getattr(aten, f"{flash}_backward"): backward}
    if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        # x (..., I) times the transposed weight (O, I)
        table[torch.ops.mkldnn._linear_pointwise] = lambda x, weight, *_, **__: 2 * prod(x) * weight[0]
    with FlopCounterMode(display=False, custom_mapping=table) as counter:
        program()
    return float(counter.get_total_flops())
