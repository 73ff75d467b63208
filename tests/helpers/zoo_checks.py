"""Compare what whinchat computes with one plain, unpadded forward pass for each text and label.

The reference is a second copy of the model, loaded by transformers and PEFT alone with the attention that transformers
chooses, and called without a cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.helpers import plain_forward, tiny_models
from whinchat.data.dataset import Split
from whinchat.evaluation.generation import generate
from whinchat.evaluation.scoring import score_prompts
from whinchat.models.adapters import attach_adapter
from whinchat.models.backbone import Backbone
from whinchat.models.forward import Engine
from whinchat.models.packed.packed_forward import is_packable
from whinchat.recipe.model_config import AdapterConfig
from whinchat.training.micro_batch import Collator, make_examples, row_losses

# Nats, and units of the largest entry of a gradient.
TOLERANCE = 1e-4
# Of very different lengths, so that a batch of them has much padding.
TEXTS = (tiny_models.TEXTS[3], tiny_models.TEXTS[6], tiny_models.TEXTS[0], tiny_models.BORDER_TEXTS[0])
NEW_TOKENS = 6


@dataclass(frozen=True)
class Pair:
    """The same model twice, once as whinchat loads it and once as transformers and PEFT do.

    Attributes:
        backbone: of whinchat.
        model: ``backbone.model``, or the same with an adapter.
        plain: the reference.
    """

    backbone: Backbone
    model: Any
    plain: Any

    @property
    def packed(self) -> bool:
        """Whether whinchat takes the packed way."""
        return is_packable(self.model, self.backbone.plan)

    def engine(self, labels: Sequence[str]) -> Engine:
        """Return whinchat's engine for ``labels``."""
        return tiny_models.engine_of(self.backbone, labels, self.model)


def load_pair(folder: Path, **backbone: Any) -> Pair:
    """Load the model in ``folder`` without an adapter."""
    loaded = tiny_models.load(folder, **backbone)
    return Pair(loaded, loaded.model, plain_forward.plain_base(folder, attn_implementation=None))


def tuned_pair(folder: Path, scratch: Path, backbone: Backbone, **adapter: Any) -> Pair:
    """Attach an adapter to ``backbone`` that changes the logits, and to a second model through ``scratch``."""
    settings = AdapterConfig.model_validate({"r": 4, "lora_alpha": 8, **adapter})
    tuned = attach_adapter(backbone.model, settings, seed=3)
    tiny_models.stir(tuned)
    twin = plain_forward.plain_twin(tuned, folder, scratch, attn_implementation=None)
    return Pair(backbone, tuned.eval(), twin)


def score_error(pair: Pair, labels: Sequence[str], texts: Sequence[str] = TEXTS, *, labels_only: bool = False) -> float:
    """Return the largest error of a score, in nats, of texts that form one batch."""
    engine = pair.engine(labels)
    prompts = engine.template.encode(texts)
    found = score_prompts(engine, prompts, len(texts), labels_only=labels_only)
    with torch.no_grad():
        wanted = reference_scores(pair.plain, engine, [prompt.ids for prompt in prompts]).numpy()
    assert np.ptp(wanted, axis=0).min() > 0.01, "the texts make no difference, so comparing proves nothing"
    if labels_only:
        found = found - np.logaddexp.reduce(found, axis=1, keepdims=True)
        wanted = wanted - np.logaddexp.reduce(wanted, axis=1, keepdims=True)
    return float(np.abs(found - wanted).max())


def loss_errors(pair: Pair, labels: Sequence[str], loss: str, texts: Sequence[str] = TEXTS) -> tuple[float, float]:
    """Return the errors of loss and gradients of one micro-batch.

    The error of the loss is in nats for each text, that of a gradient in units of its largest entry, or of 1 if that is
    less.
    """
    engine = pair.engine(labels)
    targets = [row % len(labels) for row in range(len(texts))]
    # The model is in training mode while it trains; the adapter has no dropout here. PhiMoE alone draws its experts at
    # random then, as it was trained.
    pair.model.train(pair.model.config.model_type != "phimoe")
    ours = batch_loss(engine, loss, texts, targets)
    prompts = [prompt.ids for prompt in engine.template.encode(texts)]
    if loss == "choice":
        scores = reference_scores(pair.plain, engine, prompts)
        wanted = torch.nn.functional.cross_entropy(scores, torch.tensor(targets), reduction="sum")
    elif loss == "full":
        examples = make_examples(engine.template, loss, Split("train", tuple(texts), tuple(targets)))
        conversations = [example.prompt.ids for example in examples]
        wanted = -torch.stack([log_prob(pair.plain, ids[:1], ids[1:], {}) for ids in conversations]).sum()
    else:
        answers = [[*engine.template.answers[label], engine.template.end_of_turn] for label in targets]
        log_probs = [log_prob(pair.plain, ids, answer, {}) for ids, answer in zip(prompts, answers, strict=True)]
        wanted = -torch.stack(log_probs).sum()
    found, expected = _gradients(pair.model, ours), _gradients(pair.plain, wanted)
    pair.model.eval()
    assert found.keys() == expected.keys(), "other weights get a gradient"
    assert max(gradient.abs().max().item() for gradient in expected.values()) > 1e-3, "no gradient to compare"
    worst = max(
        ((found[name] - gradient).abs().max() / gradient.abs().max().clamp_min(1.0)).item()
        for name, gradient in expected.items()
    )
    return abs(ours.item() - wanted.item()) / len(texts), worst


def reference_scores(model: Any, engine: Engine, prompts: Sequence[tuple[int, ...]]) -> torch.Tensor:
    """Return log P(answer | prompt) of every label, (R, K), from plain passes over one prompt and one answer."""
    answers = plain_forward.scored_answers(engine.template)
    passes: dict[tuple[int, ...], torch.Tensor] = {}
    return torch.stack([torch.stack([log_prob(model, ids, answer, passes) for answer in answers]) for ids in prompts])


def log_prob(
    model: Any, ids: Sequence[int], answer: Sequence[int], passes: dict[tuple[int, ...], torch.Tensor]
) -> torch.Tensor:
    """Return log P(answer | ids); ``passes`` keeps the log-probabilities of each sequence, (L, V)."""
    # The last token of the answer is predicted and not read.
    sequence = (*ids, *answer[:-1])
    if sequence not in passes:
        passes[sequence] = model(input_ids=torch.tensor([sequence]), use_cache=False).logits[0].float().log_softmax(-1)
    return torch.stack([passes[sequence][len(ids) + at - 1, token] for at, token in enumerate(answer)]).sum()


def _gradients(model: Any, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the gradients that ``loss`` gives; adapters of a vision tower get none."""
    model.zero_grad()
    loss.backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


def batch_loss(engine: Engine, loss: str, texts: Sequence[str], labels: Sequence[int]) -> torch.Tensor:
    """Return the summed loss of one training batch, as the trainer computes it."""
    examples = make_examples(engine.template, loss, Split("train", tuple(texts), tuple(labels)))
    inputs = Collator(engine, loss)(examples)
    return row_losses(engine, loss, inputs, torch.zeros(len(engine.template.answers))).sum()


def generation_differences(pair: Pair, texts: Sequence[str] = TEXTS) -> int:
    """Return how many texts get another answer than a plain greedy loop without cache gives."""
    engine = pair.engine(tiny_models.ONE_TOKEN)
    prompts = engine.template.encode(texts)
    found = generate(engine, prompts, NEW_TOKENS, len(texts))
    tokenizer = engine.template.tokenizer
    wanted = [
        tokenizer.decode(greedy_ids(pair.plain, prompt.ids, engine.template.end_ids), skip_special_tokens=True)
        for prompt in prompts
    ]
    return sum(ours != plain for ours, plain in zip(found, wanted, strict=True))


@torch.no_grad()
def greedy_ids(model: Any, ids: Sequence[int], ends: frozenset[int]) -> list[int]:
    """Return the ids that ``model`` adds to ``ids``, each the most probable one of a whole pass."""
    added: list[int] = []
    while len(added) < NEW_TOKENS and not ends.intersection(added):
        added.append(int(model(input_ids=torch.tensor([[*ids, *added]]), use_cache=False).logits[0, -1].argmax()))
    return added
