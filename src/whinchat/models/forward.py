"""The one forward pass of training, scoring and generation: logits for the answers to a batch of prompts.

B: rows. P: tokens of the shared prefix. T: longest rest of a prompt. N: answer nodes. V: vocabulary.

``answer_logits`` takes the packed way where it can (``packed/packed_forward.py``) and otherwise the plain way, through
the model's own forward pass. Both compute the shared prefix once, and logits for the answers only.

On the plain way a batch is laid out as ``[prefix | padding | rest of prompt | answer nodes]``. With the padding in the
middle every prompt ends in the same column, so the model computes logits for the last 1 + N columns alone, and its own
``generate`` can continue from there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  # the name that PyTorch code uses
from torch import Tensor, nn
from transformers import DynamicCache

from whinchat.errors import ModelError
from whinchat.models.device import DevicePlan
from whinchat.models.packed.packed_forward import PrefixCache, is_packable, packed_logits, read_prefix
from whinchat.prompts.answer_tree import AnswerTree, answer_tree
from whinchat.prompts.batching import Batch, shared_prefix
from whinchat.prompts.template import PromptTemplate

# Texts that share no beginning. In common chat templates none of them merges with the text before it into one token.
_PROBE_TEXTS = ("a", "The", "@user", "#1", '"', "2")


@dataclass(frozen=True)
class Layout:
    """A batch in the form that the model's own forward pass takes, and by the names of its arguments.

    Attributes:
        input_ids: the rest of each prompt, right-aligned, and its answer nodes, (B, T + N).
        position_ids: positions that do not count the padding, (B, T + N).
        attention_mask: 1 for a token and 0 for padding, (B, P + T + N); or, for answers that branch, a mask for each
            query, (B, 1, T + N, P + T + N).
    """

    input_ids: Tensor
    position_ids: Tensor
    attention_mask: Tensor


@dataclass(frozen=True)
class Engine:
    """A model and its prompts: what scoring, generation and training share.

    Attributes:
        model: a causal language model, with or without a PEFT adapter.
        plan: device, data types and attention of the model.
        template: builds the prompts.
        tree: the answers of ``template``.
    """

    model: nn.Module
    plan: DevicePlan
    template: PromptTemplate
    tree: AnswerTree

    @classmethod
    def build(cls, model: nn.Module, plan: DevicePlan, template: PromptTemplate) -> Engine:
        """Build an engine with the answer tree of ``template``.

        Raises:
            ModelError: the model's sliding window is shorter than the longest prompt with its answer.
        """
        tree = answer_tree(template.answers, template.end_of_turn)
        window = getattr(model.config, "sliding_window", None)
        # The window counts columns, padding included, so it would hide tokens that a row without padding attends to.
        nodes = max(len(tree.tokens), *map(len, template.answers))
        if window and window < template.max_prompt_tokens + nodes:
            raise ModelError(
                f"backbone.max_prompt_tokens: {template.max_prompt_tokens} reaches past this model's sliding window of "
                f"{window} tokens; set backbone.max_prompt_tokens to {window - nodes} or less"
            )
        return cls(model, plan, template, tree)

    def read_prefix(self) -> PrefixCache | None:
        """Compute keys and values of the prefix that nearly all prompts share.

        They are valid until a weight changes or another adapter is activated.

        Returns:
            The cache; None where prompts share nothing or the model goes the plain way.
        """
        prompts = [prompt.ids for prompt in self.template.encode(_PROBE_TEXTS)]
        if not (cut := shared_prefix(prompts)) or not is_packable(self.model, self.plan):
            return None
        with inference(self.model):
            return read_prefix(self.model, prompts[0][:cut], torch.device(self.plan.device))


def answer_logits(
    model: nn.Module,
    plan: DevicePlan,
    batch: Batch,
    tree: AnswerTree | None = None,
    prefix: PrefixCache | None = None,
    vocabulary: tuple[int, ...] | None = None,
) -> Tensor:
    """Compute the logits after the prompt and after each answer node.

    Gradients flow to every adapter weight, also through the shared prefix, whose keys and values are computed once and
    used by all B rows.

    Args:
        model: a causal language model, with or without a PEFT adapter.
        plan: device, data types and attention of the model.
        batch: prompts with answer tokens.
        tree: how the answer tokens attend to each other; None for a chain, where each follows the one before.
        prefix: the cache of ``batch.prefix`` from ``Engine.read_prefix``; None to compute the prefix with the batch.
        vocabulary: token ids to compute logits for; None for the whole vocabulary.

    Returns:
        Logits, float32, (B, 1 + N, V), or (B, 1 + N, len(vocabulary)).
    """
    batch = batch.to(torch.device(plan.device))
    if prefix is not None or is_packable(model, plan):
        return packed_logits(model, batch, tree, prefix, vocabulary).float()
    logits = plain_logits(model, plan, batch, tree).float()
    return logits if vocabulary is None else logits[..., list(vocabulary)]


def plain_logits(model: nn.Module, plan: DevicePlan, batch: Batch, tree: AnswerTree | None) -> Tensor:
    """Compute the logits by the model's own forward pass, whatever its architecture, in its own data type."""
    rows, nodes = batch.nodes.shape
    layout = layout_batch(batch, tree, plan)
    with autocast(plan):
        cache = plain_prefix_cache(model, batch.prefix, rows)
        output = model(**vars(layout), past_key_values=cache, use_cache=True, logits_to_keep=nodes + 1)
    logits: Tensor = output.logits
    return logits


def plain_prefix_cache(model: nn.Module, prefix: Tensor, rows: int) -> DynamicCache:
    """Compute keys and values of the prefix (P,) once, and repeat them for ``rows`` rows; empty where P is 0."""
    cache = DynamicCache(config=model.config)
    if len(prefix):
        model(input_ids=prefix[None], past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache.batch_repeat_interleave(rows)
    return cache


def layout_batch(batch: Batch, tree: AnswerTree | None, plan: DevicePlan) -> Layout:
    """Lay a batch out for the plain way: rests right-aligned, answer nodes after them."""
    width, prefix, nodes = batch.rest.shape[1], len(batch.prefix), batch.nodes.shape[1]
    device = batch.rest.device
    padding = width - batch.lengths[:, None]  # (B, 1)
    source = torch.arange(width, device=device) - padding  # (B, T), the column of ``batch.rest`` that is copied
    rest = batch.rest.gather(1, source.clamp_min(0))
    depths = torch.tensor(tree.depths, device=device) if tree else torch.arange(1, nodes + 1, device=device)
    ends = prefix + batch.lengths[:, None] - 1  # (B, 1), position of the last prompt token
    positions = torch.cat([(prefix + source).clamp_min(0), ends + depths], dim=1)
    present = F.pad(source >= 0, (prefix, nodes), value=True)  # (B, P + T + N)
    mask = present.long()
    if tree and tree.has_branches:
        mask = _branching_mask(present, tree, prefix, plan)
    return Layout(torch.cat([rest, batch.nodes], dim=1), positions, mask)


def _branching_mask(present: Tensor, tree: AnswerTree, prefix: int, plan: DevicePlan) -> Tensor:
    """Build a causal mask in which an answer node attends to no node of another branch, (B, 1, T + N, P + T + N)."""
    length, nodes = present.shape[1], len(tree.tokens)
    causal = torch.ones(length, length, dtype=torch.bool, device=present.device).tril()
    causal[length - nodes :, length - nodes :] = torch.tensor(tree.attention_mask, device=present.device)
    attended = causal[prefix:] & present[:, None, None, :]
    # A padding token attends to itself, since softmax over no key at all is undefined.
    attended = attended | torch.eye(length, dtype=torch.bool, device=present.device)[prefix:]
    if plan.attn_implementation == "sdpa":
        return attended
    # Eager attention adds its mask to the scores.
    lowest = torch.finfo(plan.torch_dtype).min
    return torch.zeros_like(attended, dtype=plan.torch_dtype).masked_fill(~attended, lowest)


def autocast(plan: DevicePlan) -> AbstractContextManager[Any]:
    """Compute products in the data type of ``plan``, whatever data type the weights are held in."""
    if plan.compute_dtype == "float32":
        return nullcontext()
    return torch.autocast(plan.device, dtype=plan.torch_dtype)


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
