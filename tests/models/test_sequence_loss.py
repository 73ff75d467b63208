"""The loss of whole conversations equals transformers' own loss, computed row by row, in float32 to 1e-5."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.helpers import plain_forward, tiny_models
from whinchat.models import sequence_loss
from whinchat.models.adapters import attach_adapter
from whinchat.models.sequence_loss import sequence_losses
from whinchat.prompts.batching import collate
from whinchat.recipe.model_config import AdapterConfig

LABELS = tiny_models.NESTED
TEXTS = (*tiny_models.TEXTS, *tiny_models.BORDER_TEXTS)
TARGETS = tuple(at % len(LABELS) for at in range(len(TEXTS)))


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("method", ["lora", "dora"])
@pytest.mark.parametrize("rows", [1, len(TEXTS)], ids=["one", "all"])
def test_losses_and_gradients(
    any_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, attention: str, rows: int
) -> None:
    monkeypatch.setattr(sequence_loss, "_CHUNK_TOKENS", 37)
    backbone = tiny_models.load(any_model, attn_implementation=attention)
    tuned = attach_adapter(backbone.model, AdapterConfig(method=method, r=4, lora_alpha=8), seed=3).eval()
    tiny_models.stir(tuned)
    engine = tiny_models.engine_of(backbone, LABELS, tuned)
    twin = plain_forward.plain_twin(tuned, any_model, tmp_path, attn_implementation=attention)
    conversations = [one.ids for one in engine.template.encode_conversations(TEXTS[:rows], TARGETS[:rows])]
    batch = collate(conversations, [()] * rows)
    assert rows == 1 or len(batch.prefix) > 10, "no shared prefix to speak of"
    weights = torch.linspace(0.5, 2.0, rows)
    found = sequence_losses(tuned, engine.plan, batch)
    wanted = torch.stack([plain_forward.sequence_sum(twin, ids) for ids in conversations])
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    ours = plain_forward.gradients(tuned, (found * weights).sum())
    plain_forward.assert_same_gradients(ours, plain_forward.gradients(twin, (wanted * weights).sum()))


def test_sequences_without_a_shared_beginning(tiny_llama: Path) -> None:
    backbone = tiny_models.load(tiny_llama)
    sequences = [(5, 6, 7, 8), (9, 10), (11,)]
    found = sequence_losses(backbone.model, backbone.plan, collate(sequences, [()] * 3))
    wanted = [plain_forward.sequence_sum(backbone.model, ids).item() for ids in sequences[:2]]
    assert found.tolist() == pytest.approx([*wanted, 0.0], rel=1e-5)


def test_an_output_layer_that_trains_gets_its_gradient(tiny_llama: Path) -> None:
    backbone = tiny_models.load(tiny_llama)
    head = backbone.model.get_output_embeddings().requires_grad_()
    (ids,) = (one.ids for one in tiny_models.template_of(backbone).encode_conversations(("so so",), (0,)))
    sequence_losses(backbone.model, backbone.plan, collate([ids], [()])).sum().backward()
    found, head.weight.grad = head.weight.grad.clone(), None
    plain_forward.sequence_sum(backbone.model, ids).backward()
    torch.testing.assert_close(found, head.weight.grad, rtol=1e-5, atol=1e-5)


def test_conversations_are_what_the_chat_template_writes(any_model: Path) -> None:
    backbone = tiny_models.load(any_model)
    template = tiny_models.template_of(backbone, LABELS)
    tokenizer = template.tokenizer
    for text, label, found in zip(TEXTS, TARGETS, template.encode_conversations(TEXTS, TARGETS), strict=True):
        chat = [*template.messages(text), {"role": "assistant", "content": LABELS[label]}]
        assert list(found.ids) == tokenizer.apply_chat_template(chat, tokenize=True, return_dict=False)


def test_a_long_text_is_cut_where_its_prompt_is_cut(any_model: Path) -> None:
    backbone = tiny_models.load(any_model)
    text = "what a good day at the beach <|im_end|> </s> " * 20
    template = tiny_models.template_of(backbone, LABELS, limit=80)
    (prompt,), (found,) = template.encode([text]), template.encode_conversations([text], [1])
    assert found.truncated_tokens == prompt.truncated_tokens > 0
    assert found.escaped_control_tokens == prompt.escaped_control_tokens > 0
    # The tokenizer adds a BOS to the prompt that the chat template may not write.
    start = prompt.ids[prompt.ids[0] != found.ids[0] :]
    answer = (*template.answers[1], template.end_of_turn)
    assert found.ids[: len(start)] == start
    assert found.ids[len(start) :][: len(answer)] == answer
