"""The base of contestants that answer through the chat model: loading, scoring, and whinchat's own training.

N: texts. K: labels.
"""

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
    """Answers with the label whose answer is most probable under the model."""

    engine: Engine

    def load(self) -> None:
        """Load the chat model."""
        self.backbone: Backbone = load_backbone(self.backbone_config(), find_model(self.recipe.backbone))
        self.device = self.backbone.plan.device
        self.notes["weights"] = f"{self.backbone.plan.load_in}, multiplied in {self.backbone.plan.compute_dtype}"

    def backbone_config(self) -> BackboneConfig:
        """Return how the model is loaded."""
        return self.recipe.backbone

    def answer(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return log P(answer | prompt), (N, K), computed as everywhere in whinchat."""
        prompts = self.engine.template.encode(texts)
        return score_prompts(self.engine, prompts, self.recipe.evaluate.per_device_eval_batch_size).astype(np.float64)

    def parameters(self) -> tuple[int, int]:
        """Return the number of the model's parameters, adapter included, and of the trained ones."""
        return count_parameters(self.engine.model)

    def train(self, model: Any, train: Split) -> int:
        """Train the trainable weights of ``model`` as ``whinchat train`` does, and return the number of rows.

        Checkpoints are written only where the recipe keeps the best of them.
        """
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
