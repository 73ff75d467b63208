"""What training minimizes: its examples, their tensors and losses, and the score of the validation rows.

B: rows of a batch. K: labels.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from accelerate.utils import gather_object
from numpy.typing import NDArray
from torch import Tensor

from whinchat.data.dataset import Split
from whinchat.evaluation.metrics import macro_f1_of_rows
from whinchat.evaluation.scoring import label_probabilities, score_prompts
from whinchat.models.capabilities import check_length
from whinchat.models.forward import Engine
from whinchat.prompts.template import Prompt
from whinchat.recipe.schema import Recipe
from whinchat.training.flat_loss import constant_loss
from whinchat.training.launch import process_rank, world_size
from whinchat.training.losses import example_weights, label_offsets, own_weights, soft_targets
from whinchat.training.micro_batch import Collator, Example, make_examples, row_losses


class Objective(Protocol):
    """What ``AnswerTrainer`` trains a model towards.

    Attributes:
        examples: one for each training text.
        lengths: tokens of each example, by which batches are grouped.
        prompts: the prompts of the training texts.
        classes: the largest number of labels between which the model decides.
        constant_loss: the lowest loss of answers that do not depend on the text; None where it is not known.
    """

    examples: Sequence[Any]
    lengths: Sequence[int]
    prompts: Sequence[Prompt]
    classes: int
    constant_loss: float | None

    def collate(self, examples: Sequence[Any]) -> dict[str, Any]:
        """Return the tensors of a batch of examples: ``labels``, whose items Trainer counts, and those of its parts."""

    def parts(self, inputs: dict[str, Any]) -> list[dict[str, Tensor]]:
        """Return the parts of a batch from ``collate`` whose gradients are added one after the other.

        Each has the tensors of a ``prompts.batching.Batch``, and ``labels``, ``weights`` and ``indices``.
        """

    def losses(self, part: dict[str, Tensor]) -> Tensor:
        """Return the loss of each row of a part, (B,)."""

    def validate(self) -> tuple[float, float]:
        """Return the loss and the macro-F1 of the validation rows; every process must call this method."""


class LabelObjective:
    """The loss of a task with labels, as ``train.loss`` names it; see ``Objective``.

    Args:
        engine: the model with its prompts.
        recipe: the settings.
        train: the training rows.
        validation: the rows to score during training; None for none.

    Raises:
        ModelError: a whole conversation, which the loss ``full`` predicts, exceeds the model's positions.
    """

    def __init__(self, engine: Engine, recipe: Recipe, train: Split, validation: Split | None = None) -> None:
        settings, template = recipe.train, engine.template
        self.engine, self.loss, self.classes = engine, settings.loss, len(recipe.task.labels)
        labels = recipe.task.labels
        if train.shares:
            weights, targets = own_weights(train), soft_targets(settings, labels, train)
        else:
            weights, targets = example_weights(settings, labels, train), None
        self.examples: Sequence[Example] = make_examples(template, settings.loss, train, weights, targets)
        self.prompts: Sequence[Prompt] = [example.prompt for example in self.examples]
        self.lengths: Sequence[int] = [len(prompt.ids) for prompt in self.prompts]
        if settings.loss == "full":
            # What a conversation has behind the longest prompt: answer, end of turn and the template's own ending.
            beyond = max(self.lengths) - template.max_prompt_tokens
            check_length(engine.model, template.max_prompt_tokens, max(0, beyond))
        self.collate = Collator(engine, settings.loss)
        self._offsets = label_offsets(settings.logit_adjustment, self.classes, train)
        self.constant_loss = None if settings.logit_adjustment or targets else self._constant(train, weights)
        self._validation, self._batch_size = validation, recipe.evaluate.per_device_eval_batch_size
        self._validation_prompts = template.encode(validation.texts, validation.name) if validation else []

    def _constant(self, train: Split, weights: Sequence[float]) -> float | None:
        of_labels = constant_loss(train.labels, weights)
        if self.loss == "choice":
            return of_labels
        if self.loss == "full":  # predicts texts as well
            return None
        # A completion loss is that of all tokens of an answer and its end of turn, divided by their number.
        tokens = [len(self.engine.template.answers[label]) + 1 for label in train.labels]
        return of_labels * len(tokens) / sum(tokens)

    def parts(self, inputs: dict[str, Any]) -> list[dict[str, Tensor]]:
        """Return the batch as its only part."""
        return [inputs]

    def losses(self, part: dict[str, Tensor]) -> Tensor:
        """Return the loss of each row, (B,)."""
        return row_losses(self.engine, self.loss, part, self._offsets)

    def validate(self) -> tuple[float, float]:
        """Return the loss and the macro-F1 of the validation rows; every process must call this method."""
        assert self._validation is not None
        own = self._validation_prompts[process_rank() :: world_size()]
        scores = score_prompts(self.engine, own, self._batch_size, "Validating", labels_only=True)
        log_probs = gather_rows(scores, len(self._validation))
        return validation_metrics(log_probs, np.array(self._validation.labels))


def gather_rows(own: NDArray[np.float32], rows: int) -> NDArray[np.float32]:
    """Return what all processes scored, (rows, K), from the rows that this process took in turn."""
    gathered = np.empty((rows, own.shape[1]), own.dtype)
    for process, scores in enumerate(gather_object([own])):
        gathered[process :: world_size()] = scores
    return gathered


def validation_metrics(log_probs: NDArray[np.float32], expected: NDArray[np.int64]) -> tuple[float, float]:
    """Return the mean loss and the macro-F1 of scores (R, K) whose true labels are ``expected``, (R,)."""
    chosen = label_probabilities(log_probs)[np.arange(len(expected)), expected]
    macro_f1 = macro_f1_of_rows(expected, log_probs.argmax(axis=1), log_probs.shape[1])
    return float(-np.log(np.maximum(chosen, 1e-300)).mean()), macro_f1
