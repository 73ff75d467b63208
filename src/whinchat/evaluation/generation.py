"""Free, greedy generation: the answers that a model gives when its output is not restricted to the labels."""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig

from whinchat.models.capabilities import check_length, generates_padded
from whinchat.models.forward import Engine, inference
from whinchat.models.plain_forward import autocast, read_prefix_cache
from whinchat.progress import progress
from whinchat.prompts.batching import Batch, by_length, collate, of_equal_length
from whinchat.prompts.template import Prompt


def generate(
    engine: Engine, prompts: Sequence[Prompt], max_new_tokens: int, batch_size: int, title: str = "Generating"
) -> list[str]:
    """Generate an answer to each prompt, greedily, by the ``generate`` method of transformers.

    Args:
        engine: the model and its prompt template.
        prompts: the prompts.
        max_new_tokens: longest answer.
        batch_size: largest number of rows of a batch.
        title: of the progress bar.

    Returns:
        The answers without control tokens, in the order of ``prompts``.

    Raises:
        ModelError: the longest prompt with its answer exceeds the positions that the model was made for, or a single
            prompt does not fit into memory.
    """
    template = engine.template
    model: Any = engine.model  # torch's types do not include generate
    config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        eos_token_id=sorted(template.end_ids),
        pad_token_id=template.end_of_turn,
    )
    ids = [prompt.ids for prompt in prompts]
    lengths = [len(tokens) for tokens in ids]
    check_length(model, max(lengths, default=0), max_new_tokens)
    padded = generates_padded(model, max(lengths, default=0) + max_new_tokens)
    batches = by_length(lengths, batch_size) if padded else of_equal_length(lengths, batch_size)
    answers: dict[int, str] = {}
    with inference(model), progress(title, len(ids)) as bar:
        for rows in batches:
            prompts_of_batch = [ids[row] for row in rows]
            parts = engine.batch_limit.compute(
                len(rows), partial(_generate_batch, engine, prompts_of_batch, config, padded)
            )
            answers.update(zip(rows, itertools.chain(*parts), strict=True))
            bar.update(len(rows))
    assert len(answers) == len(ids), f"generation answered {len(answers)} of {len(ids)} prompts"
    return [answers[row] for row in range(len(ids))]


def _generate_batch(
    engine: Engine, prompts: Sequence[tuple[int, ...]], config: GenerationConfig, padded: bool, rows: slice
) -> list[str]:
    """Generate the answers to some rows of a batch of prompts.

    Args:
        engine: the model and its prompt template.
        prompts: token ids of the batch.
        config: settings of the generation.
        padded: whether the model takes prompts of unlike length together.
        rows: the rows to answer.
    """
    template, prompts = engine.template, prompts[rows]
    model: Any = engine.model  # torch's types do not include generate
    # Without padding, nothing has to be known of the model.
    batch = collate(prompts, [()] * len(prompts), None if padded else 0).to(torch.device(engine.plan.device))
    input_ids, attention_mask = _pad_in_the_middle(batch)
    arguments = {"input_ids": input_ids, "attention_mask": attention_mask, "generation_config": config}
    with autocast(engine.plan), _own_settings_only(model):
        if len(batch.prefix):
            arguments["past_key_values"] = read_prefix_cache(model, batch.prefix, len(prompts))
        output = model.generate(**arguments)
    texts = template.tokenizer.batch_decode(output[:, input_ids.shape[1] :], skip_special_tokens=True)
    return list(map(template.answer_text, texts))


def _pad_in_the_middle(batch: Batch) -> tuple[Tensor, Tensor]:
    """Return token ids and mask of ``[prefix | padding | rest]``, (B, P + T) each, so that all prompts end together."""
    width, prefix = batch.rest.shape[1], len(batch.prefix)
    padding = width - batch.lengths[:, None]  # (B, 1)
    source = torch.arange(width, device=batch.rest.device) - padding  # (B, T), the column of ``batch.rest`` to copy
    rest = batch.rest.gather(1, source.clamp_min(0))
    mask = torch.nn.functional.pad(source >= 0, (prefix, 0), value=True).long()
    return torch.cat([batch.prefix.expand(len(rest), -1), rest], dim=1), mask


@contextmanager
def _own_settings_only(model: Any) -> Iterator[None]:
    """Set the generation config of the model's folder aside inside the context.

    ``generate`` would take from it whatever our config leaves open: penalties, beams, banned words. The answers would
    then not be greedy.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    folder_config = base.generation_config
    base.generation_config = GenerationConfig()
    try:
        yield
    finally:
        base.generation_config = folder_config
