"""The plain way works for every causal model, and refuses what it cannot compute exactly."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, BertConfig, BertLMHeadModel, PreTrainedModel

from tests.helpers import plain_forward, tiny_models
from whinchat.errors import ModelError
from whinchat.evaluation.scoring import score_prompts
from whinchat.models.forward import Engine
from whinchat.models.plain_forward import plain_logits
from whinchat.prompts.batching import collate


def small_model(kind: str, folder: Path, **config: Any) -> Path:
    """Save a random model of type ``kind`` with 480 tokens to ``folder``."""
    tiny_models.chatml_tokenizer(folder)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, vocab_size=480, **config))
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("labels", ["one", "branching", "nested"])
@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("gpt2", {"n_embd": 32, "n_layer": 2, "n_head": 4}),  # learned positions, from a cached prefix
        ("bloom", {"hidden_size": 32, "n_layer": 2, "n_head": 4}),  # ALiBi
        ("mamba", {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4}),  # recurrent: whole rows
    ],
    ids=["gpt2", "bloom", "mamba"],
)
def test_scores_equal_single_unpadded_passes(tmp_path: Path, kind: str, config: dict[str, Any], labels: str) -> None:
    backbone = tiny_models.load(small_model(kind, tmp_path, initializer_range=0.25, **config))
    engine = tiny_models.engine_of(backbone, tiny_models.LABEL_SETS[labels])
    prompts = engine.template.encode(tiny_models.TEXTS)
    scores = torch.from_numpy(score_prompts(engine, prompts, 5))
    wanted = plain_forward.label_scores(engine.model, engine.template, [prompt.ids for prompt in prompts])
    torch.testing.assert_close(scores, wanted, rtol=1e-4, atol=1e-4)
    assert scores.std(dim=0).min() > 1e-3, "texts make no difference, so comparing proves little"


def test_threads_read_their_own_tokens(tiny_llama: Path) -> None:
    engine = tiny_models.engine_of(tiny_models.load(tiny_llama, attn_implementation="sdpa"), tiny_models.BRANCHING)
    prompts = engine.template.encode((*tiny_models.TEXTS, *tiny_models.BORDER_TEXTS))
    batches = [collate([one.ids], [engine.tree.tokens]) for one in prompts]

    def logits(number: int) -> torch.Tensor:
        with torch.no_grad():
            return plain_logits(engine.model, engine.plan, batches[number], engine.tree)

    alone = [logits(number) for number in range(len(batches))]
    together: dict[int, torch.Tensor] = {}
    workers = [
        threading.Thread(target=lambda number: together.update({number: logits(number)}), args=[number])
        for number in range(len(batches))
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for number, wanted in enumerate(alone):
        torch.testing.assert_close(together[number], wanted, rtol=1e-5, atol=1e-5)


def test_a_model_that_looks_ahead_is_refused(tiny_llama: Path) -> None:
    backbone = tiny_models.load(tiny_llama)
    torch.manual_seed(0)
    bert = BertLMHeadModel(
        BertConfig(
            vocab_size=480,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=1,
            num_attention_heads=4,
            max_position_embeddings=1024,
        )
    )
    with pytest.raises(ModelError, match="BertLMHeadModel: a token's logits depend on the tokens after it"):
        tiny_models.engine_of(backbone, model=bert.eval())


@pytest.mark.parametrize("calls", [0, 2])
def test_an_output_layer_that_is_not_called_once_is_refused(tiny_llama: Path, calls: int) -> None:
    backbone = tiny_models.load(tiny_llama, attn_implementation="sdpa")
    engine = tiny_models.engine_of(backbone)
    model: PreTrainedModel = backbone.model
    head, forward = model.lm_head, model.forward

    def other(**arguments: Any) -> Any:
        model.lm_head = torch.nn.Identity() if calls == 0 else head
        output = forward(**arguments)
        model.lm_head = head
        if calls == 2:
            head(output.logits.new_zeros(1, 1, 32))
        return output

    batch = collate([prompt.ids for prompt in engine.template.encode(tiny_models.TEXTS)], [()] * len(tiny_models.TEXTS))
    plain_logits(model, engine.plan, batch, None)
    model.forward = other
    with pytest.raises(ModelError, match=r"calls its output layer \d times in one forward pass"):
        plain_logits(model, engine.plan, batch, None)


@pytest.mark.parametrize(
    ("kind", "config", "limit"),
    [
        ("gpt2", {"n_embd": 32, "n_layer": 1, "n_head": 4, "n_positions": 256}, 256),
        (
            "llama",
            {
                "max_position_embeddings": 128,
                "rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4},
            },
            128,
        ),
        (
            "phi3",
            {
                "max_position_embeddings": 1024, "original_max_position_embeddings": 64, "pad_token_id": 0,
                "rope_parameters": {
                    "rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [4.0] * 4, "rope_theta": 1e4,
                    "original_max_position_embeddings": 64,
                },
            },
            64,
        ),
    ],
    ids=["learned", "dynamic", "longrope"],
)  # fmt: skip
def test_prompts_longer_than_the_positions_are_refused(
    tmp_path: Path, kind: str, config: dict[str, Any], limit: int
) -> None:
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    shape = {} if kind == "gpt2" else {**shape, "num_key_value_heads": 4}
    backbone = tiny_models.load(small_model(kind, tmp_path, **shape, **config))
    with pytest.raises(
        ModelError, match=rf"max_prompt_tokens: 512 reaches past the {limit} positions .* to {limit - 1} or less"
    ):
        tiny_models.engine_of(backbone)
    Engine.build(backbone.model, backbone.plan, tiny_models.template_of(backbone, limit=limit - 1))


def test_lengths_that_only_train_shorter_are_allowed(tmp_path: Path) -> None:
    """Rotary embeddings of a fixed kind have angles for every position."""
    backbone = tiny_models.load(
        small_model(
            "llama", tmp_path, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4,
            max_position_embeddings=64,
        )
    )  # fmt: skip
    assert tiny_models.engine_of(backbone).template.max_prompt_tokens == 512
