"""The loss of a task with questions: cross entropy of each question, on one adapter for all of them.

B: rows of a part. D: decisions of the task; a question is one, or for ``multi`` one for each option.
K: labels of all decisions of a part.

A text with its prompts for all decisions is one example. What the prompts share is computed once, forward and backward.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax, xlogy
from torch import Tensor

from whinchat.data.dataset import Answer, Split
from whinchat.data.labels import class_weights
from whinchat.evaluation.joint_scoring import JointPass, decision_engines, plan_passes, score_questions
from whinchat.evaluation.scoring import label_logits
from whinchat.models.forward import Engine
from whinchat.prompts.batching import Batch, collate
from whinchat.prompts.template import Prompt
from whinchat.recipe.question import Decision
from whinchat.recipe.schema import Recipe
from whinchat.training.distributed import largest_of_processes
from whinchat.training.launch import process_rank, world_size
from whinchat.training.losses import IGNORED, label_offsets
from whinchat.training.objective import LabelObjective, Objective, gather_rows, validation_metrics

# Texts with the same answers missing are computed apart from others where that takes fewer than this share of tokens.
_WORTH_APART = 0.8
# The weight of each label of a decision in the loss.
Weights = tuple[float, ...]


@dataclass(frozen=True)
class QuestionExample:
    """A training text with the prompts and the answers of its decisions.

    Attributes:
        prompts: token ids of the prompt of each decision, D of them.
        targets: for each decision the weight of each label in the loss; all zero where the answer is missing.
        answered: for each decision whether it has an answer.
        row: index of the training row.
    """

    prompts: tuple[tuple[int, ...], ...]
    targets: tuple[Weights, ...]
    answered: tuple[bool, ...]
    row: int


def make_objective(engine: Engine, recipe: Recipe, train: Split, validation: Split | None = None) -> Objective:
    """Return the objective of a recipe; the arguments are those of ``LabelObjective`` and ``QuestionObjective``."""
    kind = QuestionObjective if recipe.task.questions else LabelObjective
    return kind(engine, recipe, train, validation)


class QuestionObjective:
    """The loss of a task with questions; see ``Objective``.

    The loss of a text is the sum over its answered decisions; Trainer divides by their number in the whole batch, so
    that every decision counts alike. A decision has the cross entropy of its labels, against the shares where an answer
    is a share of each label; an option of a ``multi`` question has the binary cross entropy of yes and no.

    Args:
        engine: the model, with the prompts of any decision of the task.
        recipe: the settings, with questions.
        train: the training rows, with answers.
        validation: the rows to score during training; None for none.
    """

    def __init__(self, engine: Engine, recipe: Recipe, train: Split, validation: Split | None = None) -> None:
        decisions = recipe.task.decisions
        self.engines = decision_engines(engine, recipe.task)
        self._questions = [decision.question for decision in decisions]
        self.classes = max(len(decision.labels) for decision in decisions)
        splits = [train.of_decision(index) for index in range(len(decisions))]
        targets = [
            _targets(recipe, decision, own, [answers[index] for answers in train.answers])
            for index, (decision, own) in enumerate(zip(decisions, splits, strict=True))
        ]
        encoded = [own.template.encode(train.texts, train.name) for own in self.engines]
        self.prompts: Sequence[Prompt] = [
            max(row, key=lambda prompt: prompt.truncated_tokens) for row in zip(*encoded, strict=True)
        ]
        ids = zip(*([prompt.ids for prompt in own] for own in encoded), strict=True)
        self.examples: Sequence[QuestionExample] = [
            QuestionExample(prompts, row_targets, tuple(one is not None for one in train.answers[row]), row)
            for row, (prompts, row_targets) in enumerate(zip(ids, zip(*targets, strict=True), strict=True))
        ]
        self.lengths: Sequence[int] = [max(map(len, example.prompts)) for example in self.examples]
        strength = recipe.train.logit_adjustment
        self._offsets = [
            label_offsets(strength, len(decision.labels), own) for decision, own in zip(decisions, splits, strict=True)
        ]
        answered = sum(sum(example.answered) for example in self.examples)
        self.constant_loss: float | None = None if strength else _constant_loss(targets, answered)
        self._validation, self._batch_size = validation, recipe.evaluate.per_device_eval_batch_size
        self._validation_prompts = (
            [own.template.encode(validation.texts, validation.name) for own in self.engines] if validation else []
        )

    def collate(self, examples: Sequence[QuestionExample]) -> dict[str, Any]:
        """Return the parts of a batch, and ``labels`` (B, D), ``IGNORED`` where a decision has no answer."""
        every = tuple(range(len(self.engines)))
        passes = self._passes(examples, every, range(len(examples)))
        rows_of: dict[tuple[int, ...], list[int]] = {}
        for row, example in enumerate(examples):
            known = tuple(decision for decision in every if any(example.targets[decision]))
            rows_of.setdefault(known, []).append(row)
        if list(rows_of) != [every]:
            apart = [one for known, rows in rows_of.items() if known for one in self._passes(examples, known, rows)]
            # Many small passes are slow, so gaps are computed like answers unless they are a large part of the work.
            if apart and _tokens(apart) < _WORTH_APART * _tokens(passes):
                passes = apart
        answered = torch.tensor([example.answered for example in examples])
        parts = []
        for one in passes:
            if places := [place for place, row in enumerate(one.rows) if _weighs(examples[row], one.questions)]:
                parts.append(self._part(one, places, examples))
        return {
            "indices": torch.tensor([example.row for example in examples]),
            "labels": torch.where(answered, 0, IGNORED),
            # Class weights of zero can leave a batch without anything to learn, which is a step all the same.
            "passes": parts or [self._part(passes[0], range(len(passes[0].rows)), examples)],
        }

    def _passes(
        self, examples: Sequence[QuestionExample], decisions: Sequence[int], rows: Sequence[int]
    ) -> list[JointPass]:
        """Return the passes that ask for some decisions about the examples at ``rows``."""
        prompts = [[examples[row].prompts[decision] for row in rows] for decision in decisions]
        return [
            replace(
                one,
                questions=tuple(decisions[question] for question in one.questions),
                rows=tuple(rows[row] for row in one.rows),
            )
            for one in plan_passes([self.engines[decision] for decision in decisions], prompts)
        ]

    def _part(self, one: JointPass, places: Sequence[int], examples: Sequence[QuestionExample]) -> dict[str, Any]:
        """Return the tensors of the texts of a pass at ``places`` among its rows."""
        batch = collate([one.shared[place] for place in places], [one.tree.tokens] * len(places))
        own = [examples[one.rows[place]] for place in places]
        targets = [[weight for decision in one.questions for weight in example.targets[decision]] for example in own]
        return {
            "rest": batch.rest, "lengths": batch.lengths, "nodes": batch.nodes, "prefix": batch.prefix,
            "labels": torch.tensor(targets), "weights": torch.ones(len(own)),
            "indices": torch.tensor([example.row for example in own]),
            "tree": one.tree, "decisions": one.questions,
        }  # fmt: skip

    def parts(self, inputs: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the passes of a batch; as many in every process, each of which waits for the others."""
        passes: list[dict[str, Any]] = inputs["passes"]
        last = passes[-1]
        idle = last | {"labels": torch.zeros_like(last["labels"])}
        return passes + [idle] * (largest_of_processes(len(passes)) - len(passes))

    def losses(self, part: dict[str, Any]) -> Tensor:
        """Return the loss of each text of a part, summed over its decisions, (B,)."""
        tree = part["tree"]
        batch = Batch(part["prefix"], part["rest"], part["lengths"], part["nodes"])
        scores = label_logits(self.engines[0], batch, tree=tree)  # (B, K)
        offsets = torch.cat([self._offsets[decision] for decision in part["decisions"]]).to(scores)
        log_probs = torch.cat([own.log_softmax(dim=1) for own in (scores + offsets).split(tree.sizes, dim=1)], dim=1)
        losses: Tensor = -(part["labels"].to(log_probs) * log_probs).sum(dim=1)
        return losses

    def validate(self) -> tuple[float, float]:
        """Return loss and macro-F1 of the validation rows, both as means over the questions."""
        assert self._validation is not None
        own = [prompts[process_rank() :: world_size()] for prompts in self._validation_prompts]
        scored = score_questions(self.engines, own, self._batch_size, "Validating", labels_only=True)
        found: dict[str, list[tuple[float, float]]] = {}
        for index, scores in enumerate(scored):
            log_probs = gather_rows(scores, len(self._validation))
            rows = [row for row, answers in enumerate(self._validation.answers) if answers[index] is not None]
            if rows:
                expected = np.array(self._validation.of_decision(index).labels)
                found.setdefault(self._questions[index], []).append(validation_metrics(log_probs[rows], expected))
        means = np.array([np.mean(metrics, axis=0) for metrics in found.values()]).mean(axis=0)
        return float(means[0]), float(means[1])


def _targets(recipe: Recipe, decision: Decision, answered: Split, answers: Sequence[Answer]) -> Sequence[Weights]:
    """Return for each training row the weight of each label of a decision in the loss.

    Args:
        recipe: the recipe with the questions.
        decision: the decision.
        answered: the training rows with an answer to it.
        answers: the answer to it of each training row.
    """
    question, size = recipe.task.questions[decision.question], len(decision.labels)
    weights = class_weights(recipe.of_decision(decision).train, decision.labels, answered.labels, answered.shares)
    shares = near_shares(size, question.near_levels)
    targets: list[Weights] = []
    for answer in answers:
        if answer is None:
            targets.append((0.0,) * size)
        elif isinstance(answer, int):
            targets.append(tuple(weights[answer] * share for share in shares[answer]))
        else:
            targets.append(tuple(weight * share for weight, share in zip(weights, answer, strict=True)))
    return targets


def _weighs(example: QuestionExample, decisions: Sequence[int]) -> bool:
    """Return whether an answer to one of ``decisions`` counts in the loss."""
    return any(weight for decision in decisions for weight in example.targets[decision])


def _tokens(passes: Sequence[JointPass]) -> int:
    return sum(one.tokens for one in passes)


def _constant_loss(targets: Sequence[Sequence[Weights]], answered: int) -> float:
    """Return the lowest mean loss of answers that do not depend on the text.

    Args:
        targets: weights of the labels in the loss, by decision and row.
        answered: number of answers, over all rows.
    """
    totals = [np.sum(rows, axis=0) for rows in targets]  # of each decision, (K,)
    losses = [-xlogy(total, total / max(total.sum(), 1e-300)).sum() for total in totals]
    return float(sum(losses)) / max(1, answered)


def near_shares(size: int, near_levels: str) -> NDArray[np.float64]:
    """Return the share of each label for each true label, (K, K): all of the true one, or some of the near levels.

    Args:
        size: K.
        near_levels: ``near_levels`` of the question.

    Source: Diaz and Marathe 2019, Soft Labels for Ordinal Regression, equation 1 (CVPR 2019).
    """
    distance = np.abs(np.subtract.outer(np.arange(size), np.arange(size))).astype(float)
    if near_levels == "none":
        return np.eye(size)
    shares: NDArray[np.float64] = softmax(-(distance**2 if near_levels == "squared" else distance), axis=1)
    return shares
