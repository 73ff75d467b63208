"""Generated answers equal those of transformers row by row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GenerationConfig

from tests.helpers import plain_forward, tiny_models
from whinchat.errors import ModelError
from whinchat.evaluation.generation import generate
from whinchat.models.adapters import attach_adapter
from whinchat.models.forward import Engine
from whinchat.prompts.template import Prompt
from whinchat.recipe.model_config import AdapterConfig


def engine_for(folder: Path, **backbone: Any) -> Engine:
    loaded = tiny_models.load(folder, **backbone)
    tuned = attach_adapter(loaded.model, AdapterConfig(method="dora", r=4, lora_alpha=8), seed=2)
    tiny_models.stir(tuned)
    return tiny_models.engine_of(loaded, tiny_models.BRANCHING, tuned.eval())


def by_argmax(model: Any, ids: tuple[int, ...], steps: int, ends: frozenset[int]) -> list[int]:
    """Greedy decoding in four lines: no cache, no padding, no settings."""
    tokens = list(ids)
    with torch.no_grad():
        while len(tokens) < len(ids) + steps and (len(tokens) == len(ids) or tokens[-1] not in ends):
            tokens.append(int(model(input_ids=torch.tensor([tokens])).logits[0, -1].argmax()))
    return tokens[len(ids) :]


def wanted_answers(engine: Engine, prompts: list[Prompt], steps: int) -> list[str]:
    return [
        engine.template.tokenizer.decode(
            by_argmax(engine.model, prompt.ids, steps, engine.template.end_ids), skip_special_tokens=True
        )
        for prompt in prompts
    ]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("batch_size", [1, 5])
def test_equals_plain_greedy_decoding(tiny_model: Path, attention: str, batch_size: int) -> None:
    engine = engine_for(tiny_model, attn_implementation=attention)
    prompts = engine.template.encode((*tiny_models.TEXTS, *tiny_models.BORDER_TEXTS[:6]))
    found = generate(engine, prompts, 9, batch_size)
    assert found == wanted_answers(engine, prompts, 9)
    assert len(set(found)) > 5, "all say the same, so a mix-up would not show"


def test_equals_the_librarys_generate_row_by_row(tiny_model: Path, tmp_path: Path) -> None:
    engine = engine_for(tiny_model)
    twin = plain_forward.plain_twin(engine.model, tiny_model, tmp_path, trainable=False)
    prompts = engine.template.encode(tiny_models.TEXTS)
    config = GenerationConfig(
        max_new_tokens=9, do_sample=False, eos_token_id=sorted(engine.template.end_ids), pad_token_id=0
    )
    wanted = []
    for prompt in prompts:
        ids = torch.tensor([prompt.ids])
        output = twin.generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=config)
        wanted.append(engine.template.tokenizer.decode(output[0, len(prompt.ids) :], skip_special_tokens=True))
    assert generate(engine, prompts, 9, 4) == wanted


def test_without_any_shared_prefix(tiny_llama: Path) -> None:
    engine = engine_for(tiny_llama)
    draw = torch.Generator().manual_seed(1)
    prompts = [
        Prompt((10 + at, *torch.randint(300, 400, (length,), generator=draw).tolist()))
        for at, length in enumerate((0, 12, 5, 3))
    ]
    assert generate(engine, prompts, 6, 4) == wanted_answers(engine, prompts, 6)


def test_stops_at_the_end_of_turn_and_says_no_more(tiny_llama: Path) -> None:
    engine = engine_for(tiny_llama)
    prompts = engine.template.encode(tiny_models.TEXTS)
    # Whatever the model says second becomes an end of turn for it.
    first, second = by_argmax(engine.model, prompts[0].ids, 2, frozenset())
    engine.template.end_ids = engine.template.end_ids | {second}
    spoken = generate(engine, prompts, 8, 3)
    assert spoken == wanted_answers(engine, prompts, 8)
    assert spoken[0] == engine.template.tokenizer.decode([first, second])


@pytest.mark.parametrize(
    "settings",
    [
        {"do_sample": True, "temperature": 0.3, "top_k": 5, "top_p": 0.5},
        {"repetition_penalty": 1.8},
        {"no_repeat_ngram_size": 1},
        {"num_beams": 3},
        {"min_new_tokens": 7},
        {"max_length": 10},
        {"suppress_tokens": list(range(270, 420))},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_greedy_means_greedy_whatever_the_model_folder_prefers(tiny_llama: Path, settings: dict[str, Any]) -> None:
    engine = engine_for(tiny_llama)
    prompts = engine.template.encode(tiny_models.TEXTS)
    wanted = wanted_answers(engine, prompts, 8)
    config = engine.model.get_base_model().generation_config
    for name, value in settings.items():
        setattr(config, name, value)
    assert generate(engine, prompts, 8, 4) == wanted


def test_answers_past_the_positions_are_refused(tiny_llama: Path) -> None:
    engine = engine_for(tiny_llama)
    engine.model.config.max_position_embeddings = 60
    engine.model.config.rope_parameters = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
    prompts = engine.template.encode(tiny_models.TEXTS)
    longest = max(len(prompt.ids) for prompt in prompts)
    with pytest.raises(ModelError, match=rf"{longest} reaches past the 60 positions .* to 52 or less"):
        generate(engine, prompts, 8, 4)


def test_order_and_number_are_kept(tiny_mistral: Path) -> None:
    engine = engine_for(tiny_mistral)
    prompts = engine.template.encode(tiny_models.TEXTS)
    forward = generate(engine, prompts, 5, 3)
    assert generate(engine, prompts[::-1], 5, 3) == forward[::-1]
    assert generate(engine, [], 5, 3) == []
