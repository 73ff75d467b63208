"""Every architecture is right or refused: scores, losses and gradients against single, unpadded passes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.helpers import tiny_models, zoo_checks
from tests.helpers.zoo import ZOO
from whinchat.errors import ModelError
from whinchat.models.capabilities import _CONTINUES_FROM_CACHE

# Part of the message by which an architecture is refused.
REFUSED = {
    "Falcon (ALiBi)": "counts ALiBi's bias twice in eager attention; set backbone.attn_implementation=sdpa",
    "BERT": "a token's logits depend on the tokens after it",
    "Mistral 3": "a mistral3 model is no causal language model that transformers can load",
    "RWKV": "transformers rescales its weights",
}
# One of each way: packed with windows and two rotary embeddings, packed with soft caps, recurrent layers, experts.
_QUICK = {"Gemma 3 text", "Gemma 2", "LFM2", "GPT-OSS"}
# And of each kind of positions, attention, recurrence and experts. The families of the packed way are in
# test_packed_architectures.py.
_SCORED_QUICKLY = _QUICK | {
    "GPT-2", "OPT", "Bloom", "MPT", "Falcon", "GPT-J", "Cohere 2", "Gemma 3n text", "Gemma 4 text", "DeepSeek V3",
    "DiffLlama", "Mixtral", "Llama 4", "Mamba", "Falcon-H1", "Jamba", "Qwen3-Next", "RecurrentGemma", "DBRX", "xLSTM",
}  # fmt: skip


def _architectures(quick: set[str]) -> list[Any]:
    """Return all architectures that are not refused; those that are not ``quick`` are marked slow."""
    return [pytest.param(name, marks=() if name in quick else pytest.mark.slow) for name in ZOO if name not in REFUSED]


@pytest.mark.parametrize("name", _architectures(_SCORED_QUICKLY))
def test_scores_losses_and_gradients(name: str, tmp_path: Path) -> None:
    folder = ZOO[name].save(tmp_path / "model")
    pair = zoo_checks.tuned_pair(folder, tmp_path / "adapter", tiny_models.load(folder))
    texts = zoo_checks.TEXTS[:3]
    errors = {
        "one token": zoo_checks.score_error(pair, tiny_models.ONE_TOKEN, texts, labels_only=True),
        "branching": zoo_checks.score_error(pair, tiny_models.BRANCHING, texts),
    }
    errors["loss"], errors["gradients"] = zoo_checks.loss_errors(pair, tiny_models.BRANCHING, "choice", texts)
    assert max(errors.values()) <= zoo_checks.TOLERANCE, errors


@pytest.mark.parametrize("name", _architectures(_QUICK))
def test_the_loss_of_whole_conversations(name: str, tmp_path: Path) -> None:
    folder = ZOO[name].save(tmp_path / "model")
    pair = zoo_checks.tuned_pair(folder, tmp_path / "adapter", tiny_models.load(folder))
    errors = zoo_checks.loss_errors(pair, tiny_models.BRANCHING, "full", zoo_checks.TEXTS[:3])
    assert max(errors) <= zoo_checks.TOLERANCE, errors


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_right_is_refused(name: str, tmp_path: Path) -> None:
    folder = ZOO[name].save(tmp_path)
    with pytest.raises(ModelError, match=REFUSED[name]):
        tiny_models.engine_of(tiny_models.load(folder))


def test_every_shortcut_is_held_equal() -> None:
    assert {kind.model_type for kind in ZOO.values()} >= _CONTINUES_FROM_CACHE


def test_alibi_is_right_with_fused_attention(tmp_path: Path) -> None:
    pair = zoo_checks.load_pair(ZOO["Falcon (ALiBi)"].save(tmp_path), attn_implementation="sdpa")
    assert zoo_checks.score_error(pair, tiny_models.BRANCHING) <= zoo_checks.TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ZOO if name not in REFUSED])
def test_answers_are_greedy(name: str, tmp_path: Path) -> None:
    folder = ZOO[name].save(tmp_path / "model")
    pair = zoo_checks.tuned_pair(folder, tmp_path / "adapter", tiny_models.load(folder))
    assert zoo_checks.generation_differences(pair) == 0
