"""The one forward pass of training and scoring: logits for the answers to a batch of prompts.

``answer_logits`` takes the packed way where it can (``packed/packed_forward.py``), and for every other model the plain
way, through the model's own forward pass (``plain_forward.py``).

B: rows. N: answer nodes. C: columns of logits that are read. V: vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from whinchat.models.batch_limit import BatchLimit
from whinchat.models.capabilities import check_causal, check_length
from whinchat.models.device import DevicePlan
from whinchat.models.packed.packed_forward import PrefixCache, is_packable, packed_logits, read_prefix
from whinchat.models.plain_forward import autocast, plain_logits
from whinchat.prompts.answer_tree import AnswerTree, answer_tree
from whinchat.prompts.batching import Batch, shared_prefix
from whinchat.prompts.template import PromptTemplate
from whinchat.recipe.task import Task

# Texts that share no beginning. In common chat templates none of them merges with the text before it into one token.
_PROBE_TEXTS = ("a", "The", "@user", "#1", '"', "2")


@dataclass(frozen=True)
class Engine:
    """A model and its prompts: what scoring, generation and training share.

    Attributes:
        model: a causal language model, with or without a PEFT adapter.
        plan: device, data types and attention of the model.
        template: builds the prompts.
        tree: the answers of ``template``.
        batch_limit: halves batches of scoring and generation that do not fit into memory.
    """

    model: nn.Module
    plan: DevicePlan
    template: PromptTemplate
    tree: AnswerTree
    batch_limit: BatchLimit = field(default_factory=lambda: BatchLimit("evaluation"), compare=False)

    @classmethod
    def build(cls, model: nn.Module, plan: DevicePlan, template: PromptTemplate) -> Engine:
        """Build an engine with the answer tree of ``template``.

        Raises:
            ModelError: the longest prompt exceeds the model's positions, or the model is not causal.
        """
        tree = _checked_tree(model, template)
        with inference(model), autocast(plan):
            check_causal(model)
        return cls(model, plan, template, tree)

    def for_task(self, task: Task) -> Engine:
        """Return an engine of the same model that asks for another task.

        Raises:
            PromptError: see ``PromptTemplate``.
            ModelError: the longest prompt exceeds the model's positions.
        """
        template = self.template.for_task(task, self.template.max_prompt_tokens)
        return replace(self, template=template, tree=_checked_tree(self.model, template))

    def prefix_ids(self) -> tuple[int, ...]:
        """Return the token ids with which nearly all prompts begin; none where the model goes the plain way."""
        texts = [text for text in _PROBE_TEXTS if not self.template.fault(text)]
        prompts = [prompt.ids for prompt in self.template.encode(texts)]
        return prompts[0][: shared_prefix(prompts)] if len(prompts) > 1 and is_packable(self.model, self.plan) else ()

    def read_prefix(self) -> PrefixCache | None:
        """Compute keys and values of the prefix that nearly all prompts share.

        They are valid until a weight changes or another adapter is activated.

        Returns:
            The cache; None where prompts share nothing or the model goes the plain way.
        """
        if not (ids := self.prefix_ids()):
            return None
        with inference(self.model):
            return read_prefix(self.model, ids, torch.device(self.plan.device))


def _checked_tree(model: nn.Module, template: PromptTemplate) -> AnswerTree:
    """Return the answer tree of ``template``, whose longest prompt must fit into the positions of ``model``."""
    tree = answer_tree(template.answers, template.end_of_turn)
    check_length(model, template.max_prompt_tokens, max(len(tree.tokens), *map(len, template.answers)))
    return tree


def answer_logits(
    model: nn.Module,
    plan: DevicePlan,
    batch: Batch,
    tree: AnswerTree | None = None,
    prefix: PrefixCache | None = None,
    vocabulary: tuple[int, ...] | None = None,
) -> Tensor:
    """Compute the logits after the nodes that ``tree`` reads.

    Gradients flow to every adapter weight, also through the shared prefix, whose keys and values are computed once and
    used by all B rows.

    Args:
        model: a causal language model, with or without a PEFT adapter.
        plan: device, data types and attention of the model.
        batch: prompts with answer tokens.
        tree: how the answer tokens attend to each other, and where logits are read; None for a chain, where each
            follows the one before, and all are read.
        prefix: the cache of ``batch.prefix`` from ``Engine.read_prefix``; None to compute the prefix with the batch.
        vocabulary: token ids to compute logits for; None for the whole vocabulary.

    Returns:
        Logits, float32, (B, C, V), or (B, C, len(vocabulary)); C is 1 + N without a tree.
    """
    batch = batch.to(torch.device(plan.device))
    if prefix is not None or is_packable(model, plan):
        return packed_logits(model, batch, tree, prefix, vocabulary).float()
    logits = plain_logits(model, plan, batch, tree).float()
    return logits if vocabulary is None else logits[..., list(vocabulary)]


@contextmanager
def inference(model: nn.Module) -> Iterator[None]:
    """Disable gradients and dropout inside the context, and restore the model's mode afterwards."""
    was_training = model.training
    # Switching the mode visits every module, about 10 ms: a tenth of the time of one text.
    if was_training:
        model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        if was_training:
            model.train()
