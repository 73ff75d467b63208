"""Contestants that answer through the chat model: prompted as it is, with a trained adapter, or trained as a whole.

N: texts. K: labels.
"""

from abc import abstractmethod
from collections.abc import Sequence
from copy import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whinchat.arena.contestants.contestant import Contestant
from whinchat.arena.subsets import draw_examples
from whinchat.data.dataset import Split
from whinchat.errors import PromptError
from whinchat.evaluation.joint_scoring import decision_engines, score_questions
from whinchat.evaluation.scoring import score_prompts
from whinchat.models.adapters import attach_adapter, count_parameters
from whinchat.models.backbone import Backbone, find_model, load_backbone
from whinchat.models.device import plan_device
from whinchat.models.forward import Engine
from whinchat.models.packed.packed_forward import keep_merged_weights
from whinchat.output_files import temporary_folder
from whinchat.recipe.model_config import BackboneConfig
from whinchat.training.trainer import AnswerTrainer, callbacks, training_arguments


class ChatModel(Contestant):
    """Answers with the label whose answer is most probable under the model."""

    engine: Engine

    def load(self) -> None:
        """Load the chat model."""
        self.backbone: Backbone = load_backbone(self.backbone_config(), find_model(self.recipe.backbone))
        self.model_commit = self.backbone.source.commit
        self.device = self.backbone.plan.device
        self.notes["weights"] = f"{self.backbone.plan.load_in}, multiplied in {self.backbone.plan.compute_dtype}"

    def backbone_config(self) -> BackboneConfig:
        """Return how the model is loaded."""
        return self.recipe.backbone

    def answer(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return log P(answer | prompt), (N, K), computed as everywhere in whinchat."""
        prompts = self.engine.template.encode(texts)
        return score_prompts(self.engine, prompts, self.recipe.evaluate.per_device_eval_batch_size).astype(np.float64)

    def answer_task(self, texts: Sequence[str]) -> list[NDArray[np.float64]]:
        """Return log P(answer | prompt) for each decision, (N, K); what prompts share is computed once."""
        if not self.recipe.task.questions:
            return super().answer_task(texts)
        engines = self.engines()
        prompts = [engine.template.encode(texts) for engine in engines]
        scores = score_questions(engines, prompts, self.recipe.evaluate.per_device_eval_batch_size)
        return [own.astype(np.float64) for own in scores]

    @abstractmethod
    def engines(self) -> list[Engine]:
        """Return the engine of each decision of a task with questions."""

    def parameters(self) -> tuple[int, int]:
        """Return the number of the model's parameters, adapter included, and of the trained ones."""
        return count_parameters(self.engine.model)


class Prompting(ChatModel):
    """Zero-shot, or few-shot with ``method.shots`` examples of each label, which are the prefix of every prompt."""

    family = "prompting"
    parts: Sequence["Prompting"]

    def fit(self, train: Split) -> int:
        """Draw the examples and return their number; nothing is trained.

        Raises:
            PromptError: a prompt with the examples may be longer than the model allows.
        """
        shots, model = self.method.shots, self.backbone.model
        title = "" if self.decision is None else f"{self.decision.title}: "
        examples = draw_examples(train, shots, self.recipe.task.labels, title) if shots else []
        template = self.backbone.tokenizer.template(self.recipe, examples)
        limit = getattr(model.config, "max_position_embeddings", None)
        needed = template.max_prompt_tokens + max(map(len, template.answers))
        if limit is not None and needed > limit:
            raise PromptError(
                f"shots: {title}with {shots} examples of each label a prompt may reach {needed:,} tokens, the model "
                f"was made for {limit:,}; lower shots or backbone.max_prompt_tokens"
            )
        self.engine = Engine.build(model, self.backbone.plan, template)
        self.notes["examples"] = str(len(examples))
        return len(examples)

    def copied(self) -> Contestant:
        """Return a copy with the same model, which is not trained."""
        return copy(self)

    def engines(self) -> list[Engine]:
        """Return the engines of the parts, each with its own examples."""
        return [part.engine for part in self.parts]

    def parameters(self) -> tuple[int, int]:
        """Return the number of the model's parameters, none of which is trained."""
        return super().parameters()[0], 0


class TrainedChatModel(ChatModel):
    """Trains weights of the chat model, one model for all questions."""

    def train(self, model: Any, train: Split) -> int:
        """Train the trainable weights of ``model`` as ``whinchat train`` does, and return the number of rows.

        Checkpoints are written only where the recipe keeps the best of them.
        """
        self.engine = Engine.build(model, self.backbone.plan, self.backbone.tokenizer.template(self.recipe))
        with temporary_folder() as folder:
            arguments = training_arguments(self.recipe, self.backbone.plan, folder)
            if self.recipe.train.keep == "last":
                arguments.set_save(strategy="no")
            trainer = AnswerTrainer(
                self.engine, self.recipe, train, self.validation, args=arguments, callbacks=callbacks(self.recipe.train)
            )
            trainer.train()
        # As a trained classifier answers; without an adapter nothing changes.
        keep_merged_weights(model, self.backbone.plan)
        self.notes["steps"] = str(trainer.state.global_step)
        return len(train)

    def fit_task(self, train: Split) -> int:
        """Train one model for all decisions."""
        return self.fit(train)

    def engines(self) -> list[Engine]:
        """Return an engine of the trained model for each decision."""
        return decision_engines(self.engine, self.recipe.task)


class AdapterTuning(TrainedChatModel):
    """Trains the adapter of ``recipe.adapter``: LoRA, DoRA, rsLoRA or PiSSA, on dense or NF4 weights."""

    def fit(self, train: Split) -> int:
        """Attach a new adapter and train it."""
        return self.train(attach_adapter(self.backbone.model, self.recipe.adapter, self.recipe.train.seed), train)


class FullTuning(TrainedChatModel):
    """Trains every weight of the chat model, with the batches and the loss of the adapters.

    The weights are held in float32 and multiplied in the data type in which an adapter's base model would be held.
    Weights in bfloat16 would lose updates, which are often smaller than the last of its 8 bits.
    """

    def backbone_config(self) -> BackboneConfig:
        """Return the recipe's backbone with float32 weights and its own data type for products."""
        backbone = self.recipe.backbone
        return backbone.model_copy(update={"load_in": "float32", "compute_dtype": plan_device(backbone).compute_dtype})

    def fit(self, train: Split) -> int:
        """Train every weight, through the plain forward pass: the packed one needs frozen weights."""
        return self.train(self.backbone.model.requires_grad_(True), train)
