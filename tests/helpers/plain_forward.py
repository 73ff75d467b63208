"""Reference results: transformers and PEFT called one row at a time, without cache and without padding."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from whinchat.models.adapters import save_adapter
from whinchat.prompts.template import PromptTemplate
from whinchat.training.losses import IGNORED


def plain_base(folder: Path, **options: Any) -> Any:
    """Load the model in ``folder`` by transformers alone, in float32 with eager attention unless ``options`` differ."""
    return AutoModelForCausalLM.from_pretrained(
        folder, **{"dtype": torch.float32, "attn_implementation": "eager", **options}
    ).eval()


def plain_twin(tuned: Any, folder: Path, scratch: Path, *, trainable: bool = True, **options: Any) -> Any:
    """Save the adapter of ``tuned`` to ``scratch``, and load it by PEFT alone onto a fresh base model."""
    save_adapter(tuned, scratch, str(folder))
    return PeftModel.from_pretrained(plain_base(folder, **options), str(scratch), is_trainable=trainable).eval()


def supervised(ids: Sequence[int], answer: Sequence[int], end: int) -> tuple[Tensor, Tensor]:
    """Return input ids and labels of one row, (1, L) each; only answer and end of turn are supervised."""
    full = torch.tensor([[*ids, *answer, end]])
    labels = full.clone()
    labels[0, : len(ids)] = IGNORED
    return full, labels


def completion_sum(model: nn.Module, ids: Sequence[int], answer: Sequence[int], end: int) -> Tensor:
    """Return the loss of answer and end of turn, summed over their tokens, by the model's own ``loss``."""
    full, labels = supervised(ids, answer, end)
    loss: Tensor = model(input_ids=full, labels=labels).loss
    return loss * (len(answer) + 1)


def sequence_sum(model: nn.Module, ids: Sequence[int]) -> Tensor:
    """Return the loss of every token of ``ids`` after the first, summed, by the model's own ``loss``."""
    full = torch.tensor([ids])
    loss: Tensor = model(input_ids=full, labels=full).loss
    return loss * (len(ids) - 1)


def answer_log_prob(model: nn.Module, ids: Sequence[int], answer: Sequence[int]) -> Tensor:
    """Return log P(answer | ids), summed over the tokens of the answer."""
    full = torch.tensor([[*ids, *answer]])
    logits = model(input_ids=full).logits[0].float().log_softmax(-1)
    return torch.stack([logits[len(ids) + at - 1, token] for at, token in enumerate(answer)]).sum()


def scored_answers(template: PromptTemplate) -> list[tuple[int, ...]]:
    """Return the answers as they are scored: with the end of turn where one answer begins another."""
    answers = template.answers
    nested = any(a != b and b[: len(a)] == a for a in answers for b in answers)
    return [(*answer, template.end_of_turn) if nested else answer for answer in answers]


def label_scores(model: nn.Module, template: PromptTemplate, prompts: Sequence[Sequence[int]]) -> Tensor:
    """Return log P(answer | prompt) of every label, (R, K), by one unpadded pass for each prompt and label."""
    answers = scored_answers(template)
    with torch.inference_mode():
        return torch.stack(
            [torch.stack([answer_log_prob(model, ids, answer) for answer in answers]) for ids in prompts]
        )


def choice_sum(model: nn.Module, ids: Sequence[int], answers: Sequence[Sequence[int]], label: int) -> Tensor:
    """Return the cross entropy of ``label`` under the softmax over the log-probabilities of all answers."""
    scores = torch.stack([answer_log_prob(model, ids, answer) for answer in answers])
    return -scores.log_softmax(0)[label]


def gradients(model: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    """Return the gradient of each trainable weight that the loss depends on."""
    model.zero_grad()
    loss.backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


def assert_same_gradients(found: dict[str, Tensor], wanted: dict[str, Tensor], tolerance: float = 1e-5) -> None:
    """Assert that gradients differ by at most ``tolerance`` of their largest entry (or 1), and that none vanishes."""
    assert wanted
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        size = gradient.abs().max().item()
        assert size > 1e-4, f"{name}: gradient vanishes, so comparing it proves nothing"
        error = (found[name] - gradient).abs().max().item()
        assert error <= tolerance * max(1.0, size), f"{name}: off by {error:.2e} of {size:.2e}"
