"""Free, greedy generation: the answers that a model gives when its output is not restricted to the labels."""

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

# The label index of an answer that is no label.
INVALID = -1


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
    answers: dict[int, str] = {}
    with inference(model), progress(title, len(ids)) as bar:
        for rows in by_length([len(tokens) for tokens in ids], batch_size):
            batch = collate([ids[row] for row in rows], [()] * len(rows)).to(torch.device(engine.plan.device))
            layout = layout_batch(batch, None, engine.plan)
            input_ids = torch.cat([batch.prefix.expand(len(rows), -1), layout.input_ids], dim=1)
            with autocast(engine.plan), _own_settings_only(model):
                output = model.generate(
                    input_ids=input_ids,
                    attention_mask=layout.attention_mask,
                    past_key_values=plain_prefix_cache(model, batch.prefix, len(rows)),
                    generation_config=config,
                )
            texts = template.tokenizer.batch_decode(output[:, input_ids.shape[1] :], skip_special_tokens=True)
            answers.update(zip(rows, texts, strict=True))
            bar.update(len(rows))
    assert len(answers) == len(ids), f"generation answered {len(answers)} of {len(ids)} prompts"
    return [answers[row] for row in range(len(ids))]


def parse_answer(text: str, task: Task) -> int:
    """Return the index of the label whose answer word is ``text``, or ``INVALID``.

    Case, surrounding white space, quotes, full stops and exclamation marks are ignored. Any further word makes the
    answer invalid, since the instruction asks for exactly one.
    """
    words = [_normalize(word) for word in task.answer_words]
    answer = _normalize(text)
    return words.index(answer) if answer in words else INVALID


def _normalize(text: str) -> str:
    return text.strip("\"'`.!" + string.whitespace).casefold()


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
