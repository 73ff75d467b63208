"""Losses, gradients and scores equal those of transformers and PEFT, computed row by row, in float32 to 1e-5."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.helpers import plain_forward, tiny_models
from tests.helpers.combinations import half_of
from whinchat.evaluation.scoring import label_logits, label_probabilities, score_prompts
from whinchat.models.adapters import attach_adapter
from whinchat.models.forward import Engine, answer_logits
from whinchat.prompts.batching import Batch
from whinchat.recipe.model_config import AdapterConfig
from whinchat.training.losses import choice_loss, completion_loss
from whinchat.training.micro_batch import Collator, Example

TEXTS = (
    *tiny_models.TEXTS[:4],
    *tiny_models.BORDER_TEXTS[:4],
    tiny_models.BORDER_TEXTS[7],
    tiny_models.BORDER_TEXTS[8],
)
BORDERS = {"tiny_llama": "t{text}", "tiny_mistral": "{text}"}


def tuned_engine(
    folder: Path, labels: tuple[str, ...], adapter: dict[str, Any], attention: str = "eager", load_in: str = "float32"
) -> Engine:
    backbone = tiny_models.load(folder, attn_implementation=attention, load_in=load_in)
    tuned = attach_adapter(backbone.model, AdapterConfig(**{"r": 4, "lora_alpha": 8, **adapter}), seed=3)
    tiny_models.stir(tuned)
    user = "t{text}" if "llama" in folder.name else "{text}"
    return tiny_models.engine_of(backbone, labels, tuned.eval(), user_template=user)


def our_loss(engine: Engine, loss: str, texts: tuple[str, ...], labels: list[int]) -> torch.Tensor:
    """The summed loss of one training batch, as the trainer makes it."""
    examples = [Example(prompt, label) for prompt, label in zip(engine.template.encode(texts), labels, strict=True)]
    inputs = Collator(engine, loss)(examples)
    batch = Batch(inputs["prefix"], inputs["rest"], inputs["lengths"], inputs["nodes"])
    assert len(batch.prefix) > 10, "no shared prefix to speak of"
    if loss == "choice":
        return choice_loss(label_logits(engine, batch), inputs["labels"]).sum()
    return completion_loss(answer_logits(engine.model, engine.plan, batch), inputs["labels"]).sum()


def plain_loss(model: Any, engine: Engine, loss: str, texts: tuple[str, ...], labels: list[int]) -> torch.Tensor:
    template = engine.template
    rows = []
    for prompt, label in zip(template.encode(texts), labels, strict=True):
        if loss == "choice":
            rows.append(plain_forward.choice_sum(model, prompt.ids, plain_forward.scored_answers(template), label))
        else:
            rows.append(plain_forward.completion_sum(model, prompt.ids, template.answers[label], template.end_of_turn))
    return torch.stack(rows).sum()


@pytest.mark.parametrize(
    ("tiny_model", "labels", "attention", "loss", "method"),
    half_of(tiny_models.BOTH, tiny_models.LABEL_SETS, ("eager", "sdpa"), ("completion", "choice"), ("lora", "dora")),
    indirect=["tiny_model"],
)
def test_loss_and_gradients(
    tiny_model: Path, tmp_path: Path, method: str, labels: str, loss: str, attention: str
) -> None:
    names = tiny_models.LABEL_SETS[labels]
    engine = tuned_engine(tiny_model, names, {"method": method}, attention)
    # Reference: PEFT's own forward pass on an untouched base.
    twin = plain_forward.plain_twin(engine.model, tiny_model, tmp_path, attn_implementation=attention)
    targets = [at % len(names) for at in range(len(TEXTS))]
    ours = our_loss(engine, loss, TEXTS, targets)
    wanted = plain_loss(twin, engine, loss, TEXTS, targets)
    assert ours.item() == pytest.approx(wanted.item(), rel=1e-5)
    plain_forward.assert_same_gradients(
        plain_forward.gradients(engine.model, ours), plain_forward.gradients(twin, wanted)
    )


@pytest.mark.parametrize(
    ("tiny_model", "adapter", "loss"),
    half_of(
        tiny_models.BOTH,
        (
            {"method": "rslora"},
            {"method": "lora", "target_modules": ("k_proj", "v_proj")},
            {"method": "dora", "target_modules": ("k_proj", "v_proj")},
            {"method": "dora", "init": "pissa"},
        ),
        ("completion", "choice"),
    ),
    indirect=["tiny_model"],
)
def test_loss_and_gradients_of_other_adapters(
    tiny_model: Path, tmp_path: Path, adapter: dict[str, Any], loss: str
) -> None:
    names = tiny_models.BRANCHING
    engine = tuned_engine(tiny_model, names, adapter)
    twin = plain_forward.plain_twin(engine.model, tiny_model, tmp_path)
    targets = [at % len(names) for at in range(len(TEXTS))]
    ours = our_loss(engine, loss, TEXTS, targets)
    wanted = plain_loss(twin, engine, loss, TEXTS, targets)
    assert ours.item() == pytest.approx(wanted.item(), rel=1e-5)
    found, expected = plain_forward.gradients(engine.model, ours), plain_forward.gradients(twin, wanted)
    if adapter.get("init") == "pissa":
        # PEFT knows nothing of the frozen halves; ours must get no gradient at all.
        for name in found:
            half = 4 if "lora_" in name else None
            if "lora_A" in name:
                assert not found[name][half:].any()
                found[name], expected[name] = found[name][:half], expected[name][:half]
            elif "lora_B" in name:
                assert not found[name][:, half:].any()
                found[name], expected[name] = found[name][:, :half], expected[name][:, :half]
    plain_forward.assert_same_gradients(found, expected)


@pytest.mark.parametrize(
    ("tiny_model", "labels", "attention"),
    half_of(tiny_models.BOTH, tiny_models.LABEL_SETS, ("eager", "sdpa")),
    indirect=["tiny_model"],
)
def test_label_scores_are_sums_of_log_probabilities(tiny_model: Path, labels: str, attention: str) -> None:
    engine = tuned_engine(tiny_model, tiny_models.LABEL_SETS[labels], {"method": "dora"}, attention)
    texts = (*tiny_models.TEXTS, *tiny_models.BORDER_TEXTS)
    prompts = engine.template.encode(texts)
    found = score_prompts(engine, prompts, batch_size=6)
    wanted = plain_forward.label_scores(engine.model, engine.template, [prompt.ids for prompt in prompts])
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
    assert np.ptp(found, axis=0).min() > 0.1, "texts make no difference, so comparing proves little"


@pytest.mark.parametrize(
    ("labels", "load_in", "attention"),
    half_of(tiny_models.LABEL_SETS, ("float32", "bfloat16"), ("eager", "sdpa")),
)
def test_label_logits_are_log_probabilities_up_to_a_constant(
    tiny_llama: Path, labels: str, load_in: str, attention: str
) -> None:
    engine = tuned_engine(tiny_llama, tiny_models.LABEL_SETS[labels], {"method": "lora"}, attention, load_in)
    prompts = engine.template.encode((*tiny_models.TEXTS, *tiny_models.BORDER_TEXTS))
    whole = label_probabilities(score_prompts(engine, prompts, 6))
    np.testing.assert_allclose(
        label_probabilities(score_prompts(engine, prompts, 6, labels_only=True)), whole, rtol=1e-5, atol=1e-6
    )
    assert np.ptp(whole, axis=0).max() > 0.01, "texts make no difference, so comparing proves little"


@pytest.mark.parametrize("labels", ["one", "branching"])
def test_scores_do_not_depend_on_batch_size_or_order(tiny_model: Path, labels: str) -> None:
    engine = tuned_engine(tiny_model, tiny_models.LABEL_SETS[labels], {"method": "lora"})
    prompts = engine.template.encode((*tiny_models.TEXTS, *tiny_models.BORDER_TEXTS))
    alone = score_prompts(engine, prompts, batch_size=1)
    for size in (2, 5, 64):
        np.testing.assert_allclose(score_prompts(engine, prompts, batch_size=size), alone, rtol=1e-5, atol=1e-5)
    order = np.random.default_rng(0).permutation(len(prompts))
    np.testing.assert_allclose(
        score_prompts(engine, [prompts[at] for at in order], 7), alone[order], rtol=1e-5, atol=1e-5
    )
    assert len(np.unique(alone[:, 0].round(4))) > len(prompts) // 2, "rows alike would hide a mix-up"


def test_scores_without_any_shared_prefix(tiny_llama: Path) -> None:
    engine = tuned_engine(tiny_llama, tiny_models.BRANCHING, {"method": "lora"})
    draw = torch.Generator().manual_seed(0)
    ids = [tuple(torch.randint(300, 400, (length,), generator=draw).tolist()) for length in (1, 9, 4, 17)]
    ids = [(10 + at, *one) for at, one in enumerate(ids)]
    prompts = [type(engine.template.encode(["x"])[0])(one) for one in ids]
    wanted = plain_forward.label_scores(engine.model, engine.template, ids)
    np.testing.assert_allclose(score_prompts(engine, prompts, 4), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("labels", tiny_models.LABEL_SETS)
def test_scores_with_a_cached_prefix(tiny_model: Path, labels: str) -> None:
    engine = tuned_engine(tiny_model, tiny_models.LABEL_SETS[labels], {"method": "lora"})
    prompts = engine.template.encode((*tiny_models.TEXTS, *tiny_models.BORDER_TEXTS))
    prefix = engine.read_prefix()
    assert prefix is not None
    assert all(prompt.ids[: len(prefix.ids)] == prefix.ids for prompt in prompts[: len(tiny_models.TEXTS)])
    # Prompts that begin otherwise are read whole.
    prompts = [*prompts, type(prompts[0])((7, 8, 9)), type(prompts[0])(prefix.ids)]
    wanted = score_prompts(engine, prompts, 1)
    for size in (1, 5, 64):
        np.testing.assert_allclose(score_prompts(engine, prompts, size, prefix=prefix), wanted, rtol=1e-5, atol=1e-5)


def test_equal_prompts_share_all_but_their_last_token(tiny_llama: Path) -> None:
    engine = tuned_engine(tiny_llama, tiny_models.NESTED, {"method": "lora"})
    prompts = engine.template.encode(["the same text"] * 3)
    found = score_prompts(engine, prompts, 3)
    np.testing.assert_allclose(found, np.repeat(score_prompts(engine, prompts[:1], 1), 3, axis=0), rtol=1e-5, atol=1e-5)


def test_scoring_nothing_and_long_texts(tiny_mistral: Path) -> None:
    engine = tuned_engine(tiny_mistral, tiny_models.BRANCHING, {"method": "lora"})
    assert score_prompts(engine, [], 4).shape == (0, 4)
    prompts = engine.template.encode(["long " * 800, "short"])
    assert prompts[0].truncated_tokens > 0
    np.testing.assert_allclose(
        score_prompts(engine, prompts, 2)[1:], score_prompts(engine, prompts[1:], 1), rtol=1e-5, atol=1e-5
    )


def test_scoring_leaves_the_model_in_its_mode(tiny_llama: Path) -> None:
    engine = tuned_engine(tiny_llama, tiny_models.ONE_TOKEN, {"method": "lora", "lora_dropout": 0.5})
    prompts = engine.template.encode(tiny_models.TEXTS)
    calm = score_prompts(engine, prompts, 4)
    engine.model.train()
    np.testing.assert_array_equal(score_prompts(engine, prompts, 4), calm)  # no dropout while scoring
    assert engine.model.training


def test_probabilities_add_up_and_keep_the_order() -> None:
    log_probs = np.array([[-1000.0, -1001.0, -1002.0], [-0.1, -30.0, -3.0]], dtype=np.float32)
    found = label_probabilities(log_probs)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    np.testing.assert_allclose(found[0], np.exp([0, -1, -2]) / np.exp([0, -1, -2]).sum(), rtol=1e-6)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("labels", ["one", "branching"])
def test_prompts_longer_than_the_sliding_window(tmp_path: Path, labels: str, attention: str) -> None:
    folder = tiny_models.make_mistral(tmp_path / "narrow", sliding_window=16)
    engine = tuned_engine(folder, tiny_models.LABEL_SETS[labels], {"method": "lora"}, attention)
    prompts = engine.template.encode(TEXTS)
    assert min(len(prompt.ids) for prompt in prompts) > 25
    wanted = plain_forward.label_scores(engine.model, engine.template, [prompt.ids for prompt in prompts])
    np.testing.assert_allclose(score_prompts(engine, prompts, 6), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_bfloat16_scores_stay_near(tiny_model: Path, attention: str) -> None:
    exact = tiny_models.engine_of(tiny_models.load(tiny_model), tiny_models.BRANCHING)
    narrow = tiny_models.engine_of(
        tiny_models.load(tiny_model, load_in="bfloat16", attn_implementation=attention), tiny_models.BRANCHING
    )
    prompts = exact.template.encode(tiny_models.TEXTS)
    wanted, found = score_prompts(exact, prompts, 8), score_prompts(narrow, prompts, 8)
    assert np.abs(found - wanted).max() < 0.5
    np.testing.assert_allclose(score_prompts(narrow, prompts, 1), found, atol=0.25)
