"""The tiny models are what the other tests take them for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers import tiny_models


def test_label_sets_cover_the_kinds_of_answers(any_model: Path) -> None:
    backbone = tiny_models.load(any_model)
    answers = {
        name: tiny_models.template_of(backbone, labels).answers for name, labels in tiny_models.LABEL_SETS.items()
    }
    assert [len(answer) for answer in answers["one"]] == [1, 1, 1]
    assert all(2 <= len(answer) <= 4 for answer in answers["several"])
    assert len({answer[0] for answer in answers["several"]}) == 3
    assert len({answer[0] for answer in answers["branching"]}) == 2
    short, long, _ = answers["nested"]
    assert long[: len(short)] == short
    assert len(long) > len(short)


@pytest.mark.parametrize("labels", [("negative", "neutral", "positive")])
def test_sentiment_words_are_a_few_tokens(any_model: Path, labels: tuple[str, ...]) -> None:
    assert all(len(answer) <= 4 for answer in tiny_models.template_of(tiny_models.load(any_model), labels).answers)


def test_folders_are_complete(any_model: Path) -> None:
    there = {file.name for file in any_model.iterdir()}
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"} <= there
