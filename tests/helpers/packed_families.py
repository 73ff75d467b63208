"""Tiny random models of any family, with an adapter, and the reference that the packed pass must equal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from tests.helpers import plain_forward, tiny_models
from whinchat.models.adapters import attach_adapter
from whinchat.models.forward import Engine
from whinchat.models.packed.packed_forward import is_packable, packed_logits
from whinchat.prompts.answer_tree import AnswerTree
from whinchat.prompts.batching import Batch, collate
from whinchat.recipe.model_config import AdapterConfig

# Answers that branch twice, of which one begins another.
DEEP = ("very good enough", "very bad enough", "very bad", "hopeless")


def unsaved_model(kind: Callable[..., Any], **config: Any) -> Any:
    """Return a tiny model of the configuration that ``kind`` builds, its norms and biases away from their first values.

    ``config`` adds fields, or replaces those of a model of two layers with four heads of 8 components.
    """
    shape = {
        "vocab_size": 480, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 2048, "initializer_range": 0.25,
        "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2, "tie_word_embeddings": False,
    }  # fmt: skip
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(kind(**{**shape, **config}))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or "bias" in name:
                parameter.add_(torch.empty_like(parameter).uniform_(-0.3, 0.3))
    return model


def random_model(folder: Path, kind: Callable[..., Any], **config: Any) -> Path:
    """Save ``unsaved_model`` with a tokenizer."""
    tiny_models.chatml_tokenizer(folder)
    unsaved_model(kind, **config).save_pretrained(folder)
    return folder


def tuned_engine(folder: Path, method: str, labels: tuple[str, ...] = DEEP, **backbone: Any) -> Engine:
    """Load the model in ``folder`` with an adapter on all linear layers that changes the logits."""
    loaded = tiny_models.load(folder, **backbone)
    model = attach_adapter(loaded.model, AdapterConfig(r=4, lora_alpha=8, method=method), seed=3)
    tiny_models.stir(model)
    return tiny_models.engine_of(loaded, labels, model.eval())


def batch_of(engine: Engine, known_prefix: int | None = None) -> Batch:
    """Return the test texts' prompts, of many lengths, with the answers of ``engine``."""
    ids = [prompt.ids for prompt in engine.template.encode(tiny_models.TEXTS)]
    return collate(ids, [engine.tree.tokens] * len(ids), known_prefix)


def single_pass_logits(model: Any, batch: Batch, tree: AnswerTree) -> Tensor:
    """Return the logits after each prompt and after each answer node, (B, 1 + N, V), by the model's own forward pass.

    Each pass reads one unpadded sequence: a whole prompt and one way through the answer tree.
    """
    rows = []
    for rest, length in zip(batch.rest, batch.lengths.tolist(), strict=True):
        prompt = [*batch.prefix.tolist(), *rest[:length].tolist()]
        read: dict[int, Tensor] = {}
        for chain in tree.chains:
            sequence = [*prompt, *(tree.tokens[node] for node in chain)]
            logits = model(input_ids=torch.tensor([sequence])).logits[0, len(prompt) - 1 :]
            for node, after in zip((-1, *chain), logits, strict=True):
                read.setdefault(node, after)
        rows.append(torch.stack([read[node] for node in range(-1, len(tree.tokens))]))
    return torch.stack(rows)


def loss_and_gradients(model: Any, logits: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the cross entropy of arbitrary targets, and the gradient of every adapter weight."""
    targets = torch.arange(logits[..., 0].numel()) % logits.shape[-1]
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets)
    return loss.detach(), plain_forward.gradients(model, loss)


def assert_exact(engine: Engine, reference: Any) -> None:
    """Assert that logits, loss and every gradient equal those of single passes of ``reference``."""
    assert is_packable(engine.model, engine.plan)
    batch = batch_of(engine)
    assert len(batch.prefix) > 10
    assert len(set(batch.lengths.tolist())) > 4
    found, wanted = packed_logits(engine.model, batch, engine.tree), single_pass_logits(reference, batch, engine.tree)
    assert_same_logits(found, wanted)
    loss, gradients = loss_and_gradients(engine.model, found)
    wanted_loss, wanted_gradients = loss_and_gradients(reference, wanted)
    torch.testing.assert_close(loss, wanted_loss, rtol=1e-5, atol=0)
    plain_forward.assert_same_gradients(gradients, wanted_gradients)


def assert_same_logits(found: Tensor, wanted: Tensor) -> None:
    """Assert that logits differ by at most 1e-5 of the largest logit, and that rows differ by more than that."""
    size = wanted.abs().max().item()
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5 * max(1.0, size))
    assert (wanted[0] - wanted[1]).abs().max() > 0.01 * size, "texts make no difference, so comparing proves little"
