"""whinchat's own training, through the path that ``whinchat run`` takes."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from benchmarks.contestants.base import Base, Stopwatch, mean_length
from benchmarks.flops import counted
from benchmarks.protocol import Measured
from benchmarks.texts import cut_to_tokens
from whinchat.data.dataset import Split
from whinchat.models.adapters import attach_adapter, count_parameters
from whinchat.models.backbone import load_backbone
from whinchat.models.forward import Engine
from whinchat.prompts.batching import shared_prefix
from whinchat.training.trainer import AnswerTrainer, callbacks, training_arguments


class WhinchatTraining(Base):
    """Rounds of ``AnswerTrainer.train()``, each over the same texts, all on one adapter.

    ``text_tokens``: texts of exactly so many tokens, made by joining tweets; for the growth curves.
    """

    def load(self) -> None:
        recipe = self.recipe()
        backbone = load_backbone(recipe.backbone)
        template = backbone.tokenizer.template(recipe)
        tuned = attach_adapter(backbone.model, recipe.adapter, recipe.train.seed)
        self.engine = Engine.build(tuned, backbone.plan, template)
        total, trainable = count_parameters(tuned)
        prompts = [prompt.ids for prompt in template.encode(self._texts().texts)]
        self._facts = {
            "load_in": backbone.plan.load_in,
            "compute_dtype": backbone.plan.compute_dtype,
            "attn_implementation": backbone.plan.attn_implementation,
            "parameters": total - trainable,  # of the model alone
            "trainable_parameters": trainable,
            "mean_prompt_tokens": mean_length(prompts),
            "prefix_tokens": shared_prefix(prompts),
            "mean_answer_tokens": round(mean_length(list(template.answers)) + 1, 1),
        }

    def run(self, *, warm_up: bool = False) -> Measured:
        split = self._texts(warm_up=warm_up)
        watch = Stopwatch()
        with tempfile.TemporaryDirectory() as folder:
            trainer = self._trainer(split, Path(folder), [watch])
            trainer.train()
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        facts = {"steps": trainer.state.global_step, "loss": losses[-1] if losses else None}
        return Measured(len(split), watch.seconds, facts)

    def count_flops(self) -> float:
        """Forward and backward over the batches of one round; the optimizer has no products."""
        with tempfile.TemporaryDirectory() as folder:
            trainer = self._trainer(self._texts(), Path(folder), [])
            self.engine.model.train()

            def steps() -> None:
                for inputs in trainer.get_train_dataloader():
                    trainer.compute_loss(trainer.model, inputs).backward()
                    trainer.model.zero_grad()

            return counted(steps)

    def _trainer(self, split: Split, folder: Path, extra: list[Any]) -> AnswerTrainer:
        recipe = self.recipe()
        args = training_arguments(recipe, self.engine.plan, folder)
        args.set_save(strategy="no")
        args.disable_tqdm = True
        return AnswerTrainer(self.engine, recipe, split, None, args=args, callbacks=[*callbacks(recipe.train), *extra])

    def _texts(self, *, warm_up: bool = False) -> Split:
        split = self.split(warm_up=warm_up)
        tokens = self.options.get("text_tokens")
        return cut_to_tokens(split, tokens, self.engine.template.tokenizer) if tokens else split
