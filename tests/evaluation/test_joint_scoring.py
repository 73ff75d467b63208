"""Several questions asked together have the scores of plain passes of each question alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import AutoConfig, AutoModelForCausalLM

from tests.helpers import plain_forward, tiny_models
from tests.helpers.packed_configs import ONE_OF_EACH, SUPPORTED
from tests.helpers.packed_families import random_model
from whinchat.errors import ModelError
from whinchat.evaluation import joint_scoring
from whinchat.evaluation.joint_scoring import decision_engines, plan_passes, score_questions
from whinchat.models.backbone import Backbone
from whinchat.models.forward import Engine
from whinchat.prompts.template import Prompt
from whinchat.recipe.task import Task

# Behind the text, so that the prompts of a text share everything before the question.
QUESTIONS = {
    "one": "{text}\n\nHow good is it?",
    "branching": "{text}\n\nWhat is the weather at the station, in one or two words?",
    "nested": "{text}\n\nHow good is the beach?",
    "several": "{text}\n\nWhich mood?",
}
TEXTS = (*tiny_models.TEXTS[:6], *tiny_models.BORDER_TEXTS[::3])


def engines_of(backbone: Backbone, names: Sequence[str] = tuple(QUESTIONS), limit: int = 512) -> list[Engine]:
    return [
        Engine.build(
            backbone.model,
            backbone.plan,
            tiny_models.template_of(backbone, tiny_models.LABEL_SETS[name], user_template=QUESTIONS[name], limit=limit),
        )
        for name in names
    ]


def encode(engines: Sequence[Engine], texts: Sequence[str] = TEXTS) -> list[list[Prompt]]:
    return [engine.template.encode(texts) for engine in engines]


def plain_scores(engine: Engine, prompts: Sequence[Prompt]) -> NDArray[np.float32]:
    ids = [prompt.ids for prompt in prompts]
    return plain_forward.label_scores(engine.model, engine.template, ids).numpy()


def ids_of(prompts: Sequence[Sequence[Prompt]]) -> list[list[tuple[int, ...]]]:
    return [[prompt.ids for prompt in own] for own in prompts]


def assert_scores(found: NDArray[np.float32], wanted: NDArray[np.float32], *, labels_only: bool = False) -> None:
    if labels_only:
        found, wanted = (scores - scores.max(axis=1, keepdims=True) for scores in (found, wanted))
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=2e-5)
    assert wanted.std(axis=0).min() > 1e-3, "texts make no difference, so comparing proves little"


@pytest.mark.parametrize("labels_only", [False, True])
@pytest.mark.parametrize("batch_size", [3, 64])
def test_scores_equal_plain_passes_of_each_question(tiny_model: Path, batch_size: int, labels_only: bool) -> None:
    engines = engines_of(tiny_models.load(tiny_model))
    prompts = encode(engines)
    assert max(len(one.questions) for one in plan_passes(engines, ids_of(prompts))) == len(engines)
    found = score_questions(engines, prompts, batch_size, labels_only=labels_only)
    for engine, own, scores in zip(engines, prompts, found, strict=True):
        assert_scores(scores, plain_scores(engine, own), labels_only=labels_only)


@pytest.mark.parametrize("family", ONE_OF_EACH)
def test_every_packed_family(family: str, tmp_path: Path) -> None:
    kind, config = SUPPORTED[family]
    engines = engines_of(tiny_models.load(random_model(tmp_path, kind, **config)), ("one", "branching"))
    prompts = encode(engines, tiny_models.TEXTS)
    for engine, own, scores in zip(engines, prompts, score_questions(engines, prompts, 8), strict=True):
        np.testing.assert_allclose(scores, plain_scores(engine, own), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["gpt2", "mamba"])
def test_models_that_go_the_plain_way(kind: str, tmp_path: Path) -> None:
    tiny_models.chatml_tokenizer(tmp_path)
    torch.manual_seed(0)
    sizes = {"gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4}, "mamba": {"hidden_size": 32, "num_hidden_layers": 2}}
    config = AutoConfig.for_model(kind, vocab_size=480, initializer_range=0.25, **sizes[kind])
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    engines = engines_of(tiny_models.load(tmp_path), ("one", "nested"))
    prompts = encode(engines, tiny_models.TEXTS)
    for engine, own, scores in zip(engines, prompts, score_questions(engines, prompts, 8), strict=True):
        np.testing.assert_allclose(scores, plain_scores(engine, own), rtol=1e-4, atol=1e-4)


def test_other_questions_their_order_and_the_number_of_passes_change_nothing(
    tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = tiny_models.load(tiny_llama)
    engines = engines_of(backbone)
    prompts = encode(engines)
    together = score_questions(engines, prompts, 16)
    turned = score_questions(engines[::-1], prompts[::-1], 16)[::-1]
    alone = [score_questions([engine], [own], 16)[0] for engine, own in zip(engines, prompts, strict=True)]
    monkeypatch.setattr(joint_scoring, "MOST_NODES", 40)
    assert len({one.questions for one in plan_passes(engines, ids_of(prompts))}) > 1
    chunked = score_questions(engines, prompts, 16)
    for variant in (turned, alone, chunked):
        for scores, wanted in zip(variant, together, strict=True):
            np.testing.assert_allclose(scores, wanted, rtol=1e-5, atol=2e-5)


def test_texts_that_questions_cut_at_different_places(tiny_mistral: Path) -> None:
    backbone = tiny_models.load(tiny_mistral)
    shortest = max(len(own[0].ids) for own in encode(engines_of(backbone), ["."]))
    engines = engines_of(backbone, limit=shortest + 8)
    prompts = encode(engines)
    cut = [[prompt.truncated_tokens for prompt in own] for own in prompts]
    assert any(len(set(row)) > 1 for row in zip(*cut, strict=True))
    assert len({one.tree for one in plan_passes(engines, ids_of(prompts))}) > 1
    for engine, own, scores in zip(engines, prompts, score_questions(engines, prompts, 16), strict=True):
        assert_scores(scores, plain_scores(engine, own))


def test_questions_before_the_text_are_asked_apart(tiny_llama: Path) -> None:
    backbone = tiny_models.load(tiny_llama)
    engines = [
        tiny_models.engine_of(backbone, tiny_models.LABEL_SETS[name], instruction=f"Question: how {name} is the text?")
        for name in ("one", "branching")
    ]
    prompts = encode(engines)
    assert [one.questions for one in plan_passes(engines, ids_of(prompts))] == [(0,), (1,)]
    for engine, own, scores in zip(engines, prompts, score_questions(engines, prompts, 16), strict=True):
        assert_scores(scores, plain_scores(engine, own))


def test_a_cached_prefix_changes_nothing(tiny_llama: Path) -> None:
    engines = engines_of(tiny_models.load(tiny_llama))
    prompts = encode(engines)
    prefixes = [engine.read_prefix() for engine in engines]
    assert None not in prefixes
    wanted = score_questions(engines, prompts, 16)
    for scores, without in zip(score_questions(engines, prompts, 16, prefixes=prefixes), wanted, strict=True):
        np.testing.assert_allclose(scores, without, rtol=1e-5, atol=2e-5)


def test_scores_that_are_not_finite_name_text_and_question(tiny_llama: Path) -> None:
    engines = engines_of(tiny_models.load(tiny_llama))
    texts = (tiny_models.TEXTS[0], "quirky zebra jumps", "the train")
    own, other = (set(prompt.ids) for prompt in engines[0].template.encode([texts[1], texts[0]]))
    with torch.no_grad():
        engines[0].model.get_input_embeddings().weight[min(own - other)] = torch.nan
    with pytest.raises(ModelError, match=r"Scoring: text 1, question 1 \(.*zebra"):
        score_questions(engines, encode(engines, texts), 16)


def test_what_branches_share_leaves_room_for_more_questions(
    tiny_mistral: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The options of a multi question ask nearly the same, so their nodes are fewer than their tokens."""
    words = {"type": "multi", "instructions": "Which of these words does the text hold?", "options": list("abcdef")}
    mood = {"type": "yes_no", "instructions": "Is it good?"}
    task = Task.model_validate({"name": "words", "questions": {"mood": mood, "words": words}})
    engine = tiny_models.engine_of(tiny_models.load(tiny_mistral))
    engines = decision_engines(engine, task)
    prompts = encode(engines, tiny_models.TEXTS)
    (whole,) = plan_passes(engines, ids_of(prompts))
    asked = sum(len(own[0].ids) - len(whole.shared[0]) for own in prompts)
    assert len(whole.tree.tokens) < 0.8 * asked
    # As many tokens as there are nodes have room, though not as many as the branches have.
    monkeypatch.setattr(joint_scoring, "MOST_NODES", len(whole.tree.tokens))
    assert [one.questions for one in plan_passes(engines, ids_of(prompts))] == [(0, 1, 2, 3, 4, 5, 6)]
    monkeypatch.setattr(joint_scoring, "MOST_NODES", len(whole.tree.tokens) - 1)
    passes = plan_passes(engines, ids_of(prompts))
    assert [one.questions for one in passes] == [(0, 1, 2, 3, 4, 5), (6,)]
    assert all(len(one.tree.tokens) < len(whole.tree.tokens) for one in passes)
