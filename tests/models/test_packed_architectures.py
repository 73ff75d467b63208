"""Families of the packed pass compute what transformers and PEFT compute, one unpadded text and answer at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers import plain_forward, tiny_models
from tests.helpers.packed_configs import DEFAULT, DYNAMIC, FULL, LONGROPE, ONE_OF_EACH, SLIDING, SUPPORTED
from tests.helpers.packed_families import (
    DEEP,
    assert_exact,
    assert_same_logits,
    batch_of,
    random_model,
    single_pass_logits,
    tuned_engine,
    unsaved_model,
)
from whinchat.errors import ModelError
from whinchat.models.forward import answer_logits
from whinchat.models.packed.architecture_registry import packed_architecture_of
from whinchat.models.packed.packed_forward import is_packable, packed_logits
from whinchat.models.plain_forward import autocast


def unsupported(family: str) -> tuple[dict[str, Any], ...]:
    """Return changes of the family's configuration of which each changes a result, or may."""
    by_type, gemma = family.startswith(("gemma3", "olmo3")), {"use_bidirectional_attention": True}
    return (
        {"hidden_activation" if family.startswith(("gemma2", "gemma3")) else "hidden_act": "gelu_new"},
        {"attention_dropout": 0.1},
        *(
            []
            if family.startswith("phi3")
            else [{"rope_parameters": {FULL: DYNAMIC, SLIDING: DEFAULT} if by_type else DYNAMIC}]
        ),
        *([{"resid_pdrop": 0.1}, {"embd_pdrop": 0.1}] if family.startswith("phi3") else []),
        *([gemma] if family.startswith("gemma") else []),
        *([{"position_embedding_type": None}, {"num_local_experts": 4}] if family == "granite4" else []),
    )


# An adapter is the same code in every family; the cached prefix below is compared with DoRA.
@pytest.mark.parametrize(
    ("family", "method"),
    [
        *((family, "lora") for family in SUPPORTED),
        *(pytest.param(family, "dora", marks=() if family == "gemma3" else pytest.mark.slow) for family in ONE_OF_EACH),
    ],
)
def test_packed_pass_equals_single_passes(tmp_path: Path, family: str, method: str) -> None:
    kind, config = SUPPORTED[family]
    folder = random_model(tmp_path / "model", kind, **config)
    engine = tuned_engine(folder, method)
    # The reference is transformers and PEFT alone, on a base that whinchat did not load.
    assert_exact(engine, plain_forward.plain_twin(engine.model, folder, tmp_path / "adapter"))


@pytest.mark.parametrize("method", ["lora", "dora"])
@pytest.mark.parametrize(
    "family",
    [
        pytest.param(one, marks=() if one in ("gemma2", "phi3-longrope", "granite4") else pytest.mark.slow)
        for one in ONE_OF_EACH
    ],
)
def test_nf4(tmp_path: Path, family: str, method: str) -> None:
    kind, config = SUPPORTED[family]
    folder = random_model(tmp_path, kind, **{**config, "hidden_size": 64})
    engine = tuned_engine(folder, method, load_in="nf4", compute_dtype="float32")
    assert_exact(engine, engine.model)


@pytest.mark.parametrize(
    ("family", "labels"), [("gemma3", tiny_models.ONE_TOKEN), *((family, DEEP) for family in ONE_OF_EACH)]
)
def test_cached_prefix_and_few_tokens(tmp_path: Path, family: str, labels: tuple[str, ...]) -> None:
    kind, config = SUPPORTED[family]
    engine = tuned_engine(random_model(tmp_path, kind, **config), "dora", labels)
    prefix = engine.read_prefix()
    assert prefix is not None
    batch, few = batch_of(engine, len(prefix.ids)), (7, 300, 4)
    with torch.inference_mode():
        wanted = single_pass_logits(engine.model, batch, engine.tree)
        assert_same_logits(answer_logits(engine.model, engine.plan, batch, engine.tree, prefix), wanted)
        found = answer_logits(engine.model, engine.plan, batch, engine.tree, prefix, few)
    torch.testing.assert_close(found, wanted[..., few], rtol=0, atol=1e-5 * max(1.0, wanted.abs().max().item()))


@pytest.mark.parametrize("family", ONE_OF_EACH)
def test_long_texts_are_scored_as_short_texts(tmp_path: Path, family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, config = SUPPORTED[family]
    engine = tuned_engine(random_model(tmp_path, kind, **config), "lora")
    batch = batch_of(engine)
    with torch.inference_mode():
        products = packed_logits(engine.model, batch, engine.tree)
        # From this many queries on, the fused kernel takes the place of the products.
        monkeypatch.setattr("whinchat.models.packed.attention.FUSED_FROM", 1)
        assert_same_logits(packed_logits(engine.model, batch, engine.tree), products)


@pytest.mark.parametrize("family", ONE_OF_EACH)
def test_bfloat16_is_as_close_to_float32_as_the_models_own_pass(tmp_path: Path, family: str) -> None:
    kind, config = SUPPORTED[family]
    folder = random_model(tmp_path, kind, **config)
    exact, narrow = tuned_engine(folder, "lora"), tuned_engine(folder, "lora", load_in="bfloat16")
    assert is_packable(narrow.model, narrow.plan)
    batch = batch_of(exact)
    with torch.no_grad():
        truth = packed_logits(exact.model, batch, exact.tree)
        packed = packed_logits(narrow.model, batch, narrow.tree)
        with autocast(narrow.plan):
            own = single_pass_logits(narrow.model, batch, narrow.tree)
    error, own_error = ((logits.float() - truth).square().mean().sqrt() for logits in (packed, own))
    assert error < 1.3 * own_error


@pytest.mark.parametrize(("family", "change"), [(one, change) for one in ONE_OF_EACH for change in unsupported(one)])
def test_what_was_not_tried_is_not_supported(family: str, change: dict[str, Any]) -> None:
    kind, config = SUPPORTED[family]
    model = unsaved_model(kind, **{**config, **change})
    architecture = packed_architecture_of(model)
    assert architecture is not None
    assert not architecture.supports(model)


def test_longrope_beyond_the_original_length_is_an_error(tmp_path: Path) -> None:
    kind, config = SUPPORTED["phi3-longrope"]
    limit = {"original_max_position_embeddings": 30}
    short = {**config, **limit, "rope_parameters": {**LONGROPE, **limit}}
    with pytest.raises(ModelError, match=r"max_prompt_tokens: 512 reaches past the 30 positions"):
        tuned_engine(random_model(tmp_path / "30", kind, **short), "lora")
    engine = tuned_engine(random_model(tmp_path / "600", kind, **config), "lora")
    engine.model.config.rope_parameters["original_max_position_embeddings"] = 30
    # Even a caller without an engine gets no angles that depend on the other prompts of a batch.
    with pytest.raises(ModelError, match=r"tokens reach past the 30 positions that this model was made for"):
        packed_logits(engine.model, batch_of(engine), engine.tree)
