"""The one forward pass used everywhere: the shared prefix once, the texts after it, logits for answers only.

B: rows. P: tokens of the shared prefix. T: longest rest of a prompt. N: answer nodes. V: vocabulary.

A batch is laid out as ``[prefix | padding | rest of prompt | answer nodes]``. With the padding in the middle every row
ends its prompt in the same column, so the model itself computes logits for the last 1 + N columns and no others, and
its own ``generate`` can go on from there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from whinchat.errors import ModelError
from whinchat.models.device import DevicePlan
from whinchat.models.packed.packed_forward import PrefixCache, is_packable, packed_logits, read_prefix
from whinchat.prompts.answer_tree import AnswerTree, answer_tree
from whinchat.prompts.batching import Batch, shared_prefix
from whinchat.prompts.template import PromptTemplate

# Texts that begin with nothing alike, and with nothing that tokenizers join to what stands before.
_BEGINNINGS = ("a", "The", "@user", "#1", '"', "2")


@dataclass(frozen=True)
class Layout:
    """A batch as the model takes it.

    Attributes:
        input_ids: (B, T + N), the rest of each prompt right-aligned, then its answer nodes.
        position_ids: (B, T + N), as if there were no padding.
        attention_mask: (B, P + T + N), 1 for a token; or (B, 1, T + N, P + T + N), True where attended.
    """

    input_ids: Tensor
    position_ids: Tensor
    attention_mask: Tensor


@dataclass(frozen=True)
class Engine:
    """A model with the prompts it is asked through: all that scoring, generation and training share.

    ``tree`` holds the answers of ``template``; ``model`` may carry an adapter.
    """

    model: nn.Module
    plan: DevicePlan
    template: PromptTemplate
    tree: AnswerTree

    @classmethod
    def build(cls, model: nn.Module, plan: DevicePlan, template: PromptTemplate) -> Engine:
        """An engine for ``template``'s answers.

        Raises:
            ModelError: the model's sliding window is shorter than a prompt with its answers may be.
        """
        tree = answer_tree(template.answers, template.end_of_turn)
        window = getattr(model.config, "sliding_window", None)
        # A window counts columns, padding included: within its reach, it would cut off what the plain path sees.
        nodes = max(len(tree.tokens), *map(len, template.answers))
        if window and window < template.max_prompt_tokens + nodes:
            raise ModelError(
                f"backbone.max_prompt_tokens: {template.max_prompt_tokens} reaches past this model's sliding window of "
                f"{window} tokens; set backbone.max_prompt_tokens to {window - nodes} or less"
            )
        return cls(model, plan, template, tree)

    def read_prefix(self) -> PrefixCache | None:
        """What nearly all prompts begin with, read once; None of a model that goes the plain way.

        It holds until a weight changes or another adapter is set.
        """
        prompts = [prompt.ids for prompt in self.template.encode(_BEGINNINGS)]
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
    """Logits after the prompt and after each answer node, float32, (B, 1 + N, V).

    Gradients flow to every adapter weight, through the shared prefix too: its keys and values are computed once and
    count for all B rows.

    Args:
        model: a causal language model, with or without a PEFT adapter.
        plan: how it is to be computed.
        batch: prompts and, in ``batch.nodes``, the answer tokens to feed, (B, N).
        tree: how the nodes attend to each other; None for a chain, each node after the one before.
        prefix: that of ``batch`` as ``Engine.read_prefix`` found it; None to read it with the batch.
        vocabulary: the tokens that get logits, the last dimension then; None for all.
    """
    batch = batch.to(torch.device(plan.device))
    if prefix is not None or is_packable(model, plan):
        return packed_logits(model, batch, tree, prefix, vocabulary).float()
    logits = plain_logits(model, plan, batch, tree).float()
    return logits if vocabulary is None else logits[..., list(vocabulary)]


def plain_logits(model: nn.Module, plan: DevicePlan, batch: Batch, tree: AnswerTree | None) -> Tensor:
    """The same by the model's own forward pass, whatever its architecture."""
    rows, nodes = batch.nodes.shape
    layout = layout_batch(batch, tree, plan)
    with autocast(plan):
        output = model(
            input_ids=layout.input_ids,
            position_ids=layout.position_ids,
            attention_mask=layout.attention_mask,
            past_key_values=plain_prefix_cache(model, batch.prefix, rows),
            use_cache=True,
            logits_to_keep=nodes + 1,
        )
    logits: Tensor = output.logits
    return logits


def plain_prefix_cache(model: nn.Module, prefix: Tensor, rows: int) -> DynamicCache:
    """Keys and values of the prefix (P,), computed once and repeated for ``rows`` rows; empty where P is 0."""
    cache = DynamicCache(config=model.config)
    if len(prefix):
        model(input_ids=prefix[None], past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache.batch_repeat_interleave(rows)
    return cache


def layout_batch(batch: Batch, tree: AnswerTree | None, plan: DevicePlan) -> Layout:
    """Right-align the rests and place the answer nodes after them."""
    width, prefix, nodes = batch.rest.shape[1], len(batch.prefix), batch.nodes.shape[1]
    device = batch.rest.device
    gaps = width - batch.lengths  # (B,), padding tokens of each row
    column = torch.arange(width, device=device)
    source = column - gaps[:, None]  # (B, T), where in the right-padded rest each column comes from
    rest = batch.rest.gather(1, source.clamp_min(0))
    depths = torch.tensor(tree.depths, device=device) if tree else torch.arange(1, nodes + 1, device=device)
    ends = prefix + batch.lengths[:, None] - 1  # (B, 1), position of the last prompt token
    positions = torch.cat([(prefix + source).clamp_min(0), ends + depths], dim=1)
    present = torch.cat(
        [
            torch.ones(len(rest), prefix, dtype=torch.bool, device=device),
            source >= 0,
            torch.ones(len(rest), nodes, dtype=torch.bool, device=device),
        ],
        dim=1,
    )  # (B, P + T + N)
    mask = present.long()
    if tree and tree.has_branches:
        mask = _branching_mask(present, tree, prefix, plan)
    return Layout(torch.cat([rest, batch.nodes], dim=1), positions, mask)


def _branching_mask(present: Tensor, tree: AnswerTree, prefix: int, plan: DevicePlan) -> Tensor:
    """(B, 1, T + N, P + T + N): causal, but a node sees only the nodes above it."""
    length, nodes = present.shape[1], len(tree.tokens)
    causal = torch.ones(length, length, dtype=torch.bool, device=present.device).tril()
    causal[length - nodes :, length - nodes :] = torch.tensor(tree.attention_mask, device=present.device)
    seen = causal[prefix:] & present[:, None, None, :]
    # A padding token sees itself: a row of softmax without any key would be undefined.
    own = torch.eye(length, dtype=torch.bool, device=present.device)[prefix:]
    seen = seen | own
    if plan.attn_implementation == "sdpa":
        return seen
    # Eager attention adds its mask to the scores.
    dtype = plan.torch_dtype
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, torch.finfo(dtype).min)


def autocast(plan: DevicePlan) -> AbstractContextManager[Any]:
    """Products in the plan's data type, whatever the weights are held in."""
    if plan.compute_dtype == "float32":
        return nullcontext()
    return torch.autocast(plan.device, dtype=plan.torch_dtype)


@contextmanager
def inference(model: nn.Module) -> Iterator[None]:
    """No gradients and no dropout inside; the model's mode is put back afterwards."""
    was_training = model.training
    # Going through all modules takes 10 ms each way, a tenth of what one text takes.
    if was_training:
        model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        if was_training:
            model.train()
