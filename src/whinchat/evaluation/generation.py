"""Free, greedy generation: what the model says when nobody holds its hand."""

from __future__ import annotations

import string
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import GenerationConfig

from whinchat.models.forward import Engine, autocast, inference, layout_batch, plain_prefix_cache
from whinchat.progress import progress
from whinchat.prompts.batching import by_length, collate
from whinchat.prompts.template import Prompt
from whinchat.recipe.schema import Task

INVALID = -1


def generate(
    engine: Engine, prompts: Sequence[Prompt], max_new_tokens: int, batch_size: int, title: str = "Generating"
) -> list[str]:
    """The model's own words for each prompt, greedy, in the order of ``prompts``.

    ``transformers``' ``generate`` from the shared prefix's cache on; control tokens are left out of the answer.
    """
    template = engine.template
    model: Any = engine.model  # torch types know nothing of generate
    config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        eos_token_id=sorted(template.end_ids),
        pad_token_id=template.end_of_turn,
    )
    ids = [prompt.ids for prompt in prompts]
    answers: list[str | None] = [None] * len(ids)
    with inference(model), progress(title, len(ids)) as bar:
        for rows in by_length([len(one) for one in ids], batch_size):
            batch = collate([ids[row] for row in rows], [()] * len(rows)).to(torch.device(engine.plan.device))
            layout = layout_batch(batch, None, engine.plan)
            given = torch.cat([batch.prefix.expand(len(rows), -1), layout.input_ids], dim=1)
            with autocast(engine.plan), _no_other_settings(model):
                output = model.generate(
                    input_ids=given,
                    attention_mask=layout.attention_mask,
                    past_key_values=plain_prefix_cache(model, batch.prefix, len(rows)),
                    generation_config=config,
                )
            said = template.tokenizer.batch_decode(output[:, given.shape[1] :], skip_special_tokens=True)
            for row, answer in zip(rows, said, strict=True):
                answers[row] = answer
            bar.update(len(rows))
    missing = [row for row, answer in enumerate(answers) if answer is None]
    assert not missing, f"generation lost rows {missing[:5]}"
    return [answer for answer in answers if answer is not None]


def parse_answer(text: str, task: Task) -> int:
    """Index of the label whose answer word ``text`` is, or ``INVALID``.

    Case, surrounding white space, quotes and a closing full stop are forgiven; any further word is not, since the
    instruction asks for exactly one.
    """
    words = [_bare(word) for word in task.answer_words]
    said = _bare(text)
    return words.index(said) if said in words else INVALID


def _bare(text: str) -> str:
    return text.strip("\"'`.!" + string.whitespace).casefold()


@contextmanager
def _no_other_settings(model: Any) -> Iterator[None]:
    """What our config leaves open, ``generate`` takes from the model folder's: penalties, beams, banned words.

    Greedy means greedy, so the folder's config is set aside meanwhile.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    kept = base.generation_config
    base.generation_config = GenerationConfig()
    try:
        yield
    finally:
        base.generation_config = kept
