"""One adapter on two devices: an engine on the CPU in float32, and the same on an accelerator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.helpers import plain_forward, tiny_models
from whinchat.data.dataset import Split
from whinchat.models.adapters import attach_adapter
from whinchat.models.forward import Engine
from whinchat.recipe.model_config import AdapterConfig
from whinchat.training.losses import IGNORED
from whinchat.training.micro_batch import Collator, make_examples, row_losses

LABELS = (0, 1, 2, 3, 0, 1, 2, 3)


def engine_on(
    device: str, folder: Path, load_in: str = "float32", like: Engine | None = None, **adapter: Any
) -> Engine:
    """Return an engine with an adapter that changes the logits.

    Args:
        device: where the model is loaded.
        folder: the model.
        load_in: data type of the frozen weights.
        like: an engine with the same adapter, whose weights are copied; None for weights of this engine's own.
        **adapter: keys of the recipe's ``adapter`` section.
    """
    backbone = tiny_models.load(folder, device=device, load_in=load_in)
    tuned = attach_adapter(backbone.model, AdapterConfig(r=4, lora_alpha=8, **adapter), seed=3)
    if like is None:
        tiny_models.stir(tuned)
    else:
        wanted = dict(like.model.named_parameters())
        with torch.no_grad():
            for name, weight in tuned.named_parameters():
                if weight.requires_grad:
                    weight.copy_(wanted[name])
    return tiny_models.engine_of(backbone, tiny_models.BRANCHING, tuned.eval())


def mean_loss(engine: Engine, loss: str) -> Tensor:
    """Return the mean loss over the test texts, as the trainer computes it."""
    examples = make_examples(engine.template, loss, Split("train", tiny_models.TEXTS, LABELS))
    inputs = Collator(engine, loss)(examples)
    inputs = {name: tensor.to(engine.plan.device) for name, tensor in inputs.items()}
    losses = row_losses(engine, loss, inputs, torch.zeros(len(tiny_models.BRANCHING)))
    return losses.sum() / (inputs["labels"] != IGNORED).sum()


def gradients_on_cpu(engine: Engine, loss: str) -> dict[str, Tensor]:
    """Return the gradient of every adapter weight, float32, on the CPU; scaled and unscaled again for float16."""
    scale = 1024.0 if engine.plan.compute_dtype == "float16" else 1.0
    found = plain_forward.gradients(engine.model, mean_loss(engine, loss) * scale)
    return {name: gradient.float().cpu() / scale for name, gradient in found.items()}


def single_pass_loss(model: Any, engine: Engine, loss: str) -> Tensor:
    """Return the same mean by transformers and PEFT alone, one unpadded sequence at a time."""
    template = engine.template
    answers = plain_forward.scored_answers(template)
    sums, items = [], 0
    if loss == "full":
        for prompt in template.encode_conversations(tiny_models.TEXTS, LABELS):
            sums.append(plain_forward.sequence_sum(model, prompt.ids))
            items += len(prompt.ids) - 1
        return torch.stack(sums).sum() / items
    for prompt, label in zip(template.encode(tiny_models.TEXTS), LABELS, strict=True):
        if loss == "choice":
            sums.append(plain_forward.choice_sum(model, prompt.ids, answers, label))
            items += 1
        else:
            answer = template.answers[label]
            sums.append(plain_forward.completion_sum(model, prompt.ids, answer, template.end_of_turn))
            items += len(answer) + 1
    return torch.stack(sums).sum() / items
