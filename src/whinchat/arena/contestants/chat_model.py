"""What the contestants that answer through the chat model share: prompts, scoring, whinchat's own training."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whinchat.arena.contestants.contestant import Contestant
from whinchat.data.dataset import Split
from whinchat.evaluation.scoring import score_prompts
from whinchat.models.adapters import count_parameters
from whinchat.models.backbone import Backbone, find_model, load_backbone
from whinchat.models.forward import Engine
from whinchat.recipe.schema import BackboneConfig
from whinchat.training.trainer import AnswerTrainer, callbacks, training_arguments


class ChatModel(Contestant):
    """Answers with the label whose answer the model finds most probable."""

    engine: Engine

    def load(self) -> None:
        """Load the chat model."""
        self.backbone: Backbone = load_backbone(self.wanted(), find_model(self.recipe.backbone))
        self.device = self.backbone.plan.device
        self.notes["weights"] = f"{self.backbone.plan.load_in}, multiplied in {self.backbone.plan.compute_dtype}"

    def wanted(self) -> BackboneConfig:
        """How the model is to be held."""
        return self.recipe.backbone

    def answer(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """log P(answer | prompt), (n, K), by the scoring used everywhere."""
        prompts = self.engine.template.encode(texts)
        return score_prompts(self.engine, prompts, self.recipe.evaluate.per_device_eval_batch_size).astype(np.float64)

    def parameters(self) -> tuple[int, int]:
        """Of the model with what was trained."""
        return count_parameters(self.engine.model)

    def train(self, model: Any, train: Split) -> int:
        """Train what ``model`` leaves trainable, as ``whinchat train`` does, but for the checkpoints; the rows read."""
        self.engine = Engine.build(model, self.backbone.plan, self.backbone.tokenizer.template(self.recipe))
        with tempfile.TemporaryDirectory(prefix="whinchat-arena-") as folder:
            arguments = training_arguments(self.recipe, self.backbone.plan, Path(folder))
            if self.recipe.train.keep == "last":
                arguments.set_save(strategy="no")
            trainer = AnswerTrainer(
                self.engine, self.recipe, train, self.validation, args=arguments, callbacks=callbacks(self.recipe.train)
            )
            trainer.train()
        self.notes["steps"] = str(trainer.state.global_step)
        return len(train)
