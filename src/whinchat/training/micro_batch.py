"""A micro-batch of training: its rows, its tensors and its losses.

B: rows of a batch. N: answer nodes. K: labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from whinchat.data.dataset import Split
from whinchat.evaluation.scoring import label_logits
from whinchat.models.forward import Engine, answer_logits
from whinchat.models.memory import give_back_memory
from whinchat.models.sequence_loss import sequence_losses
from whinchat.prompts.batching import Batch, collate
from whinchat.prompts.template import Prompt, PromptTemplate
from whinchat.training.losses import IGNORED, choice_loss, completion_loss


@dataclass(frozen=True)
class Example:
    """A training prompt, or for the loss ``full`` a whole conversation, with its label, weight and row index.

    Where labels are soft, ``target`` holds the weight of each label in the loss; otherwise it is empty.
    """

    prompt: Prompt
    label: int
    weight: float = 1.0
    row: int = 0
    target: tuple[float, ...] = ()


def make_examples(
    template: PromptTemplate,
    loss: str,
    rows: Split,
    weights: Sequence[float] | None = None,
    targets: Sequence[tuple[float, ...]] | None = None,
) -> list[Example]:
    """Encode training rows for ``train.loss``, in their order.

    ``weights`` are those of ``losses.example_weights``, and ``targets`` those of ``losses.soft_targets``.
    """
    if loss == "full":
        prompts = template.encode_conversations(rows.texts, rows.labels, rows.name)
    else:
        prompts = template.encode(rows.texts, rows.name)
    columns = (
        prompts,
        rows.labels,
        [1.0] * len(prompts) if weights is None else weights,
        range(len(prompts)),
        [()] * len(prompts) if targets is None else targets,
    )
    return [Example(*values) for values in zip(*columns, strict=True)]


@dataclass(frozen=True)
class Collator:
    """Turn examples into the tensors of one step.

    The tensors are those of a ``Batch`` and four more. ``weights``, (B,), holds the weight of each row, and
    ``indices``, (B,), the index of the training row. ``labels`` holds what the loss predicts: label indices (B,) for
    ``choice``, token ids (B, 1 + N) for ``completion``, or the token ids after each row's first for ``full``. Trainer
    counts its items to weigh the batches of one accumulated step equally. ``targets``, (B, K), holds the weight of each
    label where labels are soft; it is (B, 0) elsewhere.
    """

    engine: Engine
    loss: str

    def __call__(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        prompts = [example.prompt.ids for example in examples]
        if self.loss == "choice":
            batch = collate(prompts, [self.engine.tree.tokens] * len(prompts))
            labels = torch.tensor([example.label for example in examples])
        elif self.loss == "full":
            batch, labels = collate(prompts, [()] * len(prompts)), _pad_targets([ids[1:] for ids in prompts])
        else:
            template = self.engine.template
            answers = [template.answers[example.label] for example in examples]
            batch = collate(prompts, answers)
            labels = _pad_targets([(*answer, template.end_of_turn) for answer in answers])
        # ``rest`` comes first, because accelerate reads the batch size from the first tensor.
        return {
            "rest": batch.rest, "lengths": batch.lengths, "nodes": batch.nodes, "prefix": batch.prefix,
            "labels": labels, "weights": torch.tensor([example.weight for example in examples]),
            "indices": torch.tensor([example.row for example in examples]),
            "targets": torch.tensor([example.target for example in examples]),
        }  # fmt: skip


def take_rows(part: dict[str, Any], rows: slice) -> dict[str, Any]:
    """Return some rows of the tensors of a part of a batch; the shared prefix, and what is no tensor, stay whole."""
    whole = {name for name, value in part.items() if name == "prefix" or not isinstance(value, Tensor)}
    return {name: value if name in whole else value[rows] for name, value in part.items()}


def _pad_targets(rows: Sequence[Sequence[int]]) -> Tensor:
    """Return token ids of unlike length as one tensor, ``IGNORED`` behind the shorter rows."""
    return pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=IGNORED)


def row_losses(engine: Engine, loss: str, inputs: dict[str, Tensor], offsets: Tensor) -> Tensor:
    """Compute the loss of each row of a micro-batch, (B,).

    Args:
        engine: the model with its prompts.
        loss: ``train.loss``.
        inputs: the tensors of ``Collator``.
        offsets: terms that ``choice`` adds to the scores, (K,); see ``label_offsets``.
    """
    if engine.plan.load_in == "nf4" and engine.plan.device == "cpu":
        # NF4 is chosen to save memory, so what the last micro-batch freed goes back to the system. The tensors of an
        # accelerator are not in the memory that this releases.
        give_back_memory()
    batch = Batch(inputs["prefix"], inputs["rest"], inputs["lengths"], inputs["nodes"])
    if loss == "choice":
        scores = label_logits(engine, batch)
        targets = inputs["targets"] if inputs["targets"].shape[1] else inputs["labels"]
        return choice_loss(scores, targets, offsets.to(scores.device))
    if loss == "full":
        return sequence_losses(engine.model, engine.plan, batch)
    return completion_loss(answer_logits(engine.model, engine.plan, batch), inputs["labels"])
