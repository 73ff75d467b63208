"""The plain path: transformers and PEFT as anyone would call them, one row at a time, no cache, no padding."""

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
    """The model in ``folder``, float32, eager unless told otherwise, with nothing of ours in it."""
    return AutoModelForCausalLM.from_pretrained(
        folder, **{"dtype": torch.float32, "attn_implementation": "eager", **options}
    ).eval()


def plain_twin(tuned: Any, folder: Path, scratch: Path, *, trainable: bool = True, **options: Any) -> Any:
    """PEFT's own model with the adapter of ``tuned``, through a saved adapter and a fresh base."""
    save_adapter(tuned, scratch, str(folder))
    return PeftModel.from_pretrained(plain_base(folder, **options), str(scratch), is_trainable=trainable).eval()


def supervised(ids: Sequence[int], answer: Sequence[int], end: int) -> tuple[Tensor, Tensor]:
    """Input ids and labels of one row, (1, L) each; only answer and end of turn are supervised."""
    full = torch.tensor([[*ids, *answer, end]])
    labels = full.clone()
    labels[0, : len(ids)] = IGNORED
    return full, labels


def completion_sum(model: nn.Module, ids: Sequence[int], answer: Sequence[int], end: int) -> Tensor:
    """The summed loss of answer and end of turn, by the model's own ``loss``."""
    full, labels = supervised(ids, answer, end)
    loss: Tensor = model(input_ids=full, labels=labels).loss
    return loss * (len(answer) + 1)


def answer_log_prob(model: nn.Module, ids: Sequence[int], answer: Sequence[int]) -> Tensor:
    """log P(answer | ids), the sum over its tokens."""
    full = torch.tensor([[*ids, *answer]])
    logits = model(input_ids=full).logits[0].float().log_softmax(-1)
    return torch.stack([logits[len(ids) + at - 1, token] for at, token in enumerate(answer)]).sum()


def scored_answers(template: PromptTemplate) -> list[tuple[int, ...]]:
    """The answers as they are scored: with the end of turn where one begins another."""
    answers = template.answers
    nested = any(a != b and b[: len(a)] == a for a in answers for b in answers)
    return [(*answer, template.end_of_turn) if nested else answer for answer in answers]


def choice_sum(model: nn.Module, ids: Sequence[int], answers: Sequence[Sequence[int]], label: int) -> Tensor:
    """Cross entropy of ``label`` under the softmax over the labels' sequence log-probabilities."""
    scores = torch.stack([answer_log_prob(model, ids, answer) for answer in answers])
    return -scores.log_softmax(0)[label]


def gradients(model: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    """Gradient of each trainable weight."""
    model.zero_grad()
    loss.backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.requires_grad}


def assert_same_gradients(found: dict[str, Tensor], wanted: dict[str, Tensor], tolerance: float = 1e-5) -> None:
    """Equal to ``tolerance`` of the largest entry of each weight's gradient (or of 1); and none is zero throughout."""
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        size = gradient.abs().max().item()
        assert size > 1e-4, f"{name}: gradient vanishes, so comparing it proves nothing"
        error = (found[name] - gradient).abs().max().item()
        assert error <= tolerance * max(1.0, size), f"{name}: off by {error:.2e} of {size:.2e}"
