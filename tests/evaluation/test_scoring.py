"""A score that is not a finite number becomes an error and no answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers import tiny_models
from whinchat.errors import ModelError
from whinchat.evaluation.scoring import score_prompts
from whinchat.models.forward import Engine


def broken_engine(folder: Path, text: str, value: float, labels: tuple[str, ...]) -> Engine:
    """An engine whose model embeds one token of ``text``, and of no other text, as ``value``."""
    engine = tiny_models.engine_of(tiny_models.load(folder), labels)
    own, other = (set(prompt.ids) for prompt in engine.template.encode([text, tiny_models.TEXTS[0]]))
    token = min(own - other)
    with torch.no_grad():
        engine.model.get_input_embeddings().weight[token] = value
    return engine


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("labels", [tiny_models.ONE_TOKEN, tiny_models.BRANCHING])
@pytest.mark.parametrize("labels_only", [False, True])
def test_scores_that_are_not_finite_are_refused(
    tiny_llama: Path, value: float, labels: tuple[str, ...], labels_only: bool
) -> None:
    engine = broken_engine(tiny_llama, "quirky zebra jumps", value, labels)
    texts = (tiny_models.TEXTS[0], "quirky zebra jumps")
    prompts = engine.template.encode(texts)
    found = r"^Scoring: text 1 \(.*quirky zebra jumps.*\) has scores that are not finite numbers: "
    with pytest.raises(ModelError, match=found + "the weights or the adapter hold numbers") as caught:
        score_prompts(engine, prompts, 2, labels_only=labels_only)
    assert "\n" not in str(caught.value)
    assert np.isfinite(score_prompts(engine, prompts[:1], 2, labels_only=labels_only)).all()


def test_the_message_says_what_to_set_where_a_narrow_type_overflows(tiny_llama: Path) -> None:
    engine = broken_engine(tiny_llama, "zebra", torch.nan, tiny_models.ONE_TOKEN)
    engine = replace(engine, plan=replace(engine.plan, compute_dtype="float16"))
    remedy = r"float16 may have overflowed; set backbone\.load_in=auto and backbone\.compute_dtype=float32$"
    with pytest.raises(ModelError, match=remedy):
        score_prompts(engine, engine.template.encode(["zebra"]), 1)
