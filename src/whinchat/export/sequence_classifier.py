"""A standard ``AutoModelForSequenceClassification`` folder: raw text in, labels out, nothing of whinchat needed.

The labels' rows of the output layer become the head; instruction and chat markers go into the tokenizer, around every
text. H: width of the model. K: labels. N: texts.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, normalizers, processors
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    pipeline,
)

from whinchat.errors import ModelError
from whinchat.evaluation.calibration import Calibrator
from whinchat.models.backbone import Backbone
from whinchat.progress import track
from whinchat.prompts.template import PromptTemplate

# Ridge, as a share of the mean square of a hidden state: enough for a stable solution.
_RIDGE = 1e-6
_BATCH = 16
# Two texts that begin and end in different tokens.
_PROBES = ("word", "Other words, 12")


def require_single_tokens(template: PromptTemplate) -> None:
    """Check that each label is answered with one token.

    Raises:
        ModelError: a label takes several, and a head has one row a label.
    """
    labels = template.task.labels
    long = [label for label, answer in zip(labels, template.answers, strict=True) if len(answer) > 1]
    if long:
        raise ModelError(
            f"classifier: the answer of {', '.join(long)} takes several tokens, and a classification head reads one; "
            "export merged instead, or train with one-token words in task.answers"
        )


def write_classifier(
    model: PreTrainedModel,
    backbone: Backbone,
    template: PromptTemplate,
    calibrator: Calibrator,
    texts: Sequence[str],
    folder: Path,
    dtype: torch.dtype,
) -> None:
    """Write the folder.

    A head has no bias, and a calibrated decision may need one. Hidden states behind one and the same prompt have a
    direction in common; what the decision adds to a label's score is laid into that direction, found on ``texts``.

    Args:
        model: the merged causal model.
        backbone: where it came from.
        template: its prompts.
        calibrator: how its scores are weighed; temperature and decision go into the head.
        texts: N of the kind it is for.
        folder: where to write.
        dtype: of the weights that are written.
    """
    tokens = torch.tensor([answer[0] for answer in template.answers])
    head = model.get_output_embeddings().weight[tokens].float() / calibrator.temperature  # (K, H)
    # What all labels share changes no probability, but makes scores large, which bfloat16 then rounds.
    head -= head.mean(dim=0)
    tokenizer = baked_tokenizer(template)
    config = AutoConfig.from_pretrained(backbone.source.path, revision=backbone.source.revision or "main")
    names = dict(enumerate(calibrator.labels))
    config.num_labels, config.id2label, config.label2id = len(names), names, {one: at for at, one in names.items()}
    config.pad_token_id = tokenizer.pad_token_id
    made = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
    made.base_model.load_state_dict(model.base_model.state_dict())
    made.to(dtype).eval()
    added = _added(calibrator)
    if added.abs().max() > 0:
        head = head + added[:, None] * _constant_direction(_hidden_states(made, tokenizer, texts))
    with torch.no_grad():
        made.score.weight.copy_(head)
    made.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _added(calibrator: Calibrator) -> Tensor:
    """What the decision adds to the scores over the temperature, (K,)."""
    added = calibrator.weighed(np.zeros((1, len(calibrator.labels))))[0]
    # The same for every label changes nothing.
    return torch.tensor(added - added.mean(), dtype=torch.float32)


@torch.inference_mode()
def _hidden_states(made: Any, tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> Tensor:
    """What the head reads of each text, float32, (N, H)."""
    states = []
    batches = [texts[at : at + _BATCH] for at in range(0, len(texts), _BATCH)]
    for batch in track(batches, "Reading hidden states", "batches"):
        inputs = tokenizer(list(batch), truncation=True, padding=True, return_tensors="pt")
        found = made.base_model(**inputs).last_hidden_state  # (B, T, H)
        last = inputs["attention_mask"].sum(dim=1) - 1
        states.append(found[torch.arange(len(batch)), last].float())
    return torch.cat(states)


def _constant_direction(states: Tensor) -> Tensor:
    """The smallest vector whose product with each of ``states`` (N, H) comes closest to one, (H,)."""
    gram = states.double().T @ states.double()
    ridge = _RIDGE * gram.diagonal().mean()
    gram.diagonal().add_(ridge)
    direction: Tensor = torch.linalg.solve(gram, states.double().sum(dim=0)).float()
    return direction


def baked_tokenizer(template: PromptTemplate) -> PreTrainedTokenizerFast:
    """A tokenizer that puts the prompt's own tokens around every text.

    Raises:
        ModelError: no tokenizer does, for the prompt is not the text's tokens between constant ones.
    """
    prompts = [prompt.ids for prompt in template.encode(_PROBES)]
    before, after = _frame(*prompts)
    stored = json.loads(template.tokenizer.backend_tokenizer.to_str())
    stored["post_processor"] = None
    for state in (stored, _without_first_blank(stored)):
        fast = Tokenizer.from_str(json.dumps(state))
        inner = [fast.encode(probe).ids for probe in _PROBES]
        if [(*before, *ids, *after) for ids in inner] == prompts:
            break
    else:
        raise ModelError(
            "classifier: this model's prompt is not the text's own tokens between constant ones, so it cannot be made "
            "part of a tokenizer; export merged instead"
        )
    pieces = [
        {"id": name, "ids": list(ids), "tokens": [fast.id_to_token(token) for token in ids]}
        for name, ids in (("before", before), ("after", after))
    ]
    fast.post_processor = processors.TemplateProcessing(single="before $A after", special_tokens=pieces)
    fast.normalizer = _cleaning(fast.normalizer, template.task.clean)
    own = template.tokenizer
    # The place a head is read from is the last token that is no padding.
    spare = [token for token in (own.pad_token, own.unk_token, own.eos_token, own.bos_token) if token is not None]
    return PreTrainedTokenizerFast(
        tokenizer_object=fast,
        pad_token=next(token for token in spare if own.convert_tokens_to_ids(token) != after[-1]),
        unk_token=own.unk_token,
        model_max_length=template.max_prompt_tokens,
        padding_side="right",
        # A control token spelled out in a text is text.
        split_special_tokens=True,
    )


def _frame(first: tuple[int, ...], second: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """What two prompts begin with, and what they end with."""
    length = min(len(first), len(second))
    before = next((at for at in range(length) if first[at] != second[at]), length)
    after = next((at for at in range(length - before) if first[-1 - at] != second[-1 - at]), length - before)
    return first[:before], first[len(first) - after :]


def _without_first_blank(state: dict[str, Any]) -> dict[str, Any]:
    """The same tokenizer without the blank that Llama's family puts before a text; inside a prompt there is none."""
    normalizer = state["normalizer"] or {}
    steps = normalizer.get("normalizers", [normalizer] if normalizer else [])
    kept = [step for step in steps if step["type"] != "Prepend"]
    changed = {**state, "normalizer": {"type": "Sequence", "normalizers": kept} if kept else None}
    if (state["pre_tokenizer"] or {}).get("type") == "Metaspace":
        changed["pre_tokenizer"] = {**state["pre_tokenizer"], "prepend_scheme": "never"}
    return changed


def _cleaning(normalizer: Any, steps: Sequence[str]) -> Any:
    """The tokenizer's own steps after ``spaces``; the other kinds of cleaning have no counterpart there."""
    if "spaces" not in steps:
        return normalizer
    mine = [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    return normalizers.Sequence([*mine, normalizer] if normalizer is not None else mine)


def classifier_predictions(folder: Path, texts: Sequence[str]) -> tuple[list[str], NDArray[np.float64]]:
    """What ``pipeline("text-classification", folder)`` says: labels (N,) and probabilities (N, K), in label order."""
    ask = pipeline("text-classification", str(folder), device="cpu")
    names = [ask.model.config.id2label[at] for at in range(ask.model.config.num_labels)]
    said = ask(list(texts), top_k=None, truncation=True, batch_size=_BATCH)
    shares = np.array([[{one["label"]: one["score"] for one in row}[name] for name in names] for row in said])
    return [row[0]["label"] for row in said], shares
