"""Export format "classifier": an ``AutoModelForSequenceClassification`` folder: raw text in, labels out.

The folder needs nothing of whinchat. The rows of the output layer that belong to the labels' tokens become the
classification head; the tokenizer puts instruction and chat markers around every text.

B: texts of a batch. T: tokens of the longest. H: width of the model. K: labels. N: texts.
"""

import json
from collections.abc import Sequence
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, normalizers, processors
from torch import Tensor
from transformers import (
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedTokenizerFast,
    pipeline,
)

from whinchat.errors import ModelError
from whinchat.export.exporter import ClassifierOutline, Exporter, ExportJob, FileProof
from whinchat.export.merged import merge
from whinchat.progress import track
from whinchat.prompts.template import PromptTemplate

# Ridge penalty as a share of the mean square of a hidden state: enough for a stable solution.
_RIDGE = 1e-6
_BATCH = 16
# Two texts that begin with different tokens and end with different tokens.
_PROBES = ("word", "Other words, 12")
_BLANK_ENDS = " ends \n"


class SequenceClassifierExporter(Exporter):
    """Writes the folder for ``pipeline("text-classification", FOLDER)``."""

    name = "classifier"
    carried_steps = ("spaces",)

    def check(self, outline: ClassifierOutline) -> None:
        """Raise ModelError unless each label is answered with a single token, since a head has one row for a label.

        Raise the same error where transformers has no sequence classifier of the architecture.
        """
        if fault := head_fault(outline.config):
            raise ModelError(f"{self.name}: {fault}; export merged instead")
        template = outline.template
        long = [label for label, answer in zip(template.task.labels, template.answers, strict=True) if len(answer) > 1]
        if long:
            raise ModelError(
                f"classifier: the answer of {' or '.join(long)} takes several tokens, and a classification head reads "
                "one; export merged instead, or train with one-token words in task.answers, or in the answers of the "
                "question"
            )

    def write(self, job: ExportJob) -> None:
        """Write the folder in the data type that the classifier computes in."""
        write_sequence_classifier(job, job.predictor.engine.plan.torch_dtype)

    def prove(self, job: ExportJob) -> tuple[FileProof, ...]:
        """Predict with the pipeline of transformers."""
        labels, shares = pipeline_predictions(job.folder, job.texts)
        reader = f"transformers {version('transformers')}"
        strips = strips_ends(job.folder, job.predictor.engine.template)
        return (job.compare("model.safetensors", reader, labels, shares, ends_stripped=strips),)


EXPORTER = SequenceClassifierExporter()


def head_fault(config: Any) -> str:
    """Return why there is no sequence classifier for a model of ``config``; an empty string where there is one."""
    if type(config) in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        return ""
    return f"transformers has no sequence classifier for {config.model_type} models"


def write_sequence_classifier(job: ExportJob, dtype: torch.dtype) -> None:
    """Write weights of ``dtype``, configuration and tokenizer to the folder of ``job``.

    A head has no bias, and a calibrator may need one. The hidden states behind one and the same prompt have a
    direction in common, so what the calibrator adds to a label's score is added to the head along that direction, which
    is fitted on texts.
    """
    model, backbone = merge(job.saved)
    template, calibrator = job.predictor.engine.template, job.predictor.calibrator
    tokens = torch.tensor([answer[0] for answer in template.answers])
    prompts = [prompt.ids for prompt in template.encode(_PROBES)]
    head, bias = (part / calibrator.temperature for part in answer_head(model, tokens, prompts))  # (K, H), (K,)
    # A part that all labels share changes no probability, but makes the scores large, and bfloat16 rounds large scores.
    head -= head.mean(dim=0)
    tokenizer = prompting_tokenizer(template)
    config = AutoConfig.from_pretrained(
        backbone.source.path, revision=backbone.source.revision or "main", trust_remote_code=False
    )
    names = dict(enumerate(calibrator.labels))
    config.num_labels, config.id2label = len(names), names
    config.label2id = {name: index for index, name in names.items()}
    config.pad_token_id = config.get_text_config().pad_token_id = tokenizer.pad_token_id
    classifier = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32, trust_remote_code=False)
    try:
        classifier.base_model.load_state_dict(model.base_model.state_dict())
    except RuntimeError as error:
        raise ModelError(
            f"classifier: the weights of {type(model).__name__} do not fit {type(classifier).__name__} "
            f"({str(error).splitlines()[-1].strip()}); export merged instead"
        ) from error
    classifier.to(dtype).eval()
    bias += torch.tensor(calibrator.offsets, dtype=torch.float32)
    if (bias - bias.mean()).abs().max() > 1e-6:
        states = _hidden_states(classifier, tokenizer, job.more_texts or job.texts)
        head = head + (bias - bias.mean())[:, None] * _constant_direction(states)
    with torch.no_grad():
        classifier.score.weight.copy_(head)
    classifier.save_pretrained(job.folder)
    tokenizer.save_pretrained(job.folder)


@torch.inference_mode()
def answer_head(model: Any, tokens: Tensor, prompts: Sequence[tuple[int, ...]]) -> tuple[Tensor, Tensor]:
    """Return weights (K, H) and bias (K,) of a linear layer that computes the answers' logits from hidden states.

    Families scale their logits or add a bias; both are measured on ``prompts`` and made part of the layer.

    Args:
        model: a causal language model in float32.
        tokens: the answers' tokens, (K,).
        prompts: token ids of a few prompts.

    Raises:
        ModelError: the logits are no linear function of the hidden states.
    """
    states, logits = [], []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        states.append(model.base_model(input_ids=ids, use_cache=False).last_hidden_state[0].double())
        logits.append(model(input_ids=ids, use_cache=False).logits[0][:, tokens].double())
    weight = model.get_output_embeddings().weight[tokens].double()
    products, wanted = torch.cat(states) @ weight.T, torch.cat(logits)  # (T, K) both
    centered = products - products.mean(dim=0)
    scale = (centered * (wanted - wanted.mean(dim=0))).sum() / centered.square().sum()
    bias = (wanted - scale * products).mean(dim=0)
    if (scale * products + bias - wanted).abs().max() > 1e-3 * wanted.std():
        raise ModelError(
            f"classifier: {type(model).__name__} changes its logits after the output layer, as a soft cap does, and a "
            "classification head cannot; export merged instead"
        )
    return (scale * weight).float(), bias.float()


@torch.inference_mode()
def _hidden_states(classifier: Any, tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> Tensor:
    """Return the hidden state that the head reads for each text, in float32, (N, H)."""
    states = []
    batches = [texts[start : start + _BATCH] for start in range(0, len(texts), _BATCH)]
    for batch in track(batches, "Reading hidden states", "batches"):
        inputs = tokenizer(list(batch), truncation=True, padding=True, return_tensors="pt")
        hidden = classifier.base_model(**inputs).last_hidden_state  # (B, T, H)
        last = inputs["attention_mask"].sum(dim=1) - 1
        states.append(hidden[torch.arange(len(batch)), last].float())
    return torch.cat(states)


def _constant_direction(states: Tensor) -> Tensor:
    """Return the smallest vector, (H,), whose product with each of ``states`` (N, H) comes closest to one."""
    gram = states.double().T @ states.double()
    ridge = _RIDGE * gram.diagonal().mean()
    gram.diagonal().add_(ridge)
    direction: Tensor = torch.linalg.solve(gram, states.double().sum(dim=0)).float()
    return direction


def prompting_tokenizer(template: PromptTemplate) -> PreTrainedTokenizerFast:
    """Return a tokenizer that puts the tokens of the prompt around every text.

    What the prompts do to a text becomes part of the tokenizer: the cleaning step "spaces", the stripping of the chat
    template, and the breaking up of control tokens and role markers.

    Raises:
        ModelError: the prompt is not the text's own tokens between constant ones, so no tokenizer can do this.
    """
    before, after = _common_ends(*(prompt.ids for prompt in template.encode(_PROBES)))
    fast = _matching_tokenizer(template, before, after)
    pieces = [
        {"id": name, "ids": list(ids), "tokens": [fast.id_to_token(token) for token in ids]}
        for name, ids in (("before", before), ("after", after))
    ]
    fast.post_processor = processors.TemplateProcessing(single="before $A after", special_tokens=pieces)
    own = template.tokenizer
    # The head reads the last token that is not padding, so the padding token must differ from the prompt's last token.
    spare = [token for token in (own.pad_token, own.unk_token, own.eos_token, own.bos_token) if token is not None]
    return PreTrainedTokenizerFast(
        tokenizer_object=fast,
        pad_token=next(token for token in spare if own.convert_tokens_to_ids(token) != after[-1]),
        unk_token=own.unk_token,
        model_max_length=template.max_prompt_tokens,
        padding_side="right",
        # The name of a control token in a text is tokenized as text.
        split_special_tokens=True,
    )


def strips_ends(folder: Path, template: PromptTemplate) -> bool:
    """Return whether the tokenizer in ``folder`` strips white space from a text that ``template`` reads."""
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    return tuple(tokenizer(_BLANK_ENDS)["input_ids"]) != template.encode([_BLANK_ENDS])[0].ids


def _matching_tokenizer(template: PromptTemplate, before: tuple[int, ...], after: tuple[int, ...]) -> Tokenizer:
    """Return a tokenizer whose tokens, between ``before`` and ``after``, are those of the prompts.

    Where a question stands beside the text, white space between both makes one token with white space at the ends of
    the text. If nothing else differs, the tokenizer strips the text.

    Raises:
        ModelError: there is none for some text that was tried.
    """
    if parts := template.parts():
        markers = sorted(template.guard.spelled_out(_frame_strings(template)))
        ends = [" ends ", _BLANK_ENDS, "ends.", "(ends!)"]
        marked = [f"a {marker} b" for marker in markers]
        texts = [*_PROBES, *ends, "two\n\nlines  here", "1,000 é😀", *marked]
        prompts = {
            strips: [prompt.ids for prompt in template.encode([text.strip() if strips else text for text in texts])]
            for strips in (False, True)
        }
        stored = json.loads(template.tokenizer.backend_tokenizer.to_str())
        stored["post_processor"] = None
        for added in stored["added_tokens"]:
            # Special tokens in a text are left to the normalizer, which breaks them up.
            added["special"] = added["special"] or bool(template.guard.escape(added["content"])[1])
        for strips, state in product((False, True), (stored, _without_first_blank(stored))):
            fast = Tokenizer.from_str(json.dumps(state))
            fast.encode_special_tokens = True
            sides = (True, True) if strips else (parts.strips_left, parts.strips_right)
            fast.normalizer = _text_normalizer(fast.normalizer, template, sides)
            if [(*before, *fast.encode(text).ids, *after) for text in texts] == prompts[strips]:
                return fast
    raise ModelError(
        "classifier: this model's prompt is not the text's own tokens between constant ones, so it cannot be made "
        "part of a tokenizer; export merged instead, or train with the text at the end of task.user_template"
    )


def _frame_strings(template: PromptTemplate) -> str:
    """Return a chat with an answer: every marker that a text must not contain."""
    return template.render(_PROBES[0], template.task.answer_words[0])


def _common_ends(first: tuple[int, ...], second: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the tokens that both prompts begin with, and the tokens that both end with."""
    length = min(len(first), len(second))
    before = next((i for i in range(length) if first[i] != second[i]), length)
    after = next((i for i in range(length - before) if first[-1 - i] != second[-1 - i]), length - before)
    return first[:before], first[len(first) - after :]


def _without_first_blank(state: dict[str, Any]) -> dict[str, Any]:
    """Return the tokenizer's state without the blank that Llama puts before a text, but not inside a prompt."""
    normalizer = state["normalizer"] or {}
    steps = normalizer.get("normalizers", [normalizer] if normalizer else [])
    kept = [step for step in steps if step["type"] != "Prepend"]
    changed = {**state, "normalizer": {"type": "Sequence", "normalizers": kept} if kept else None}
    if (state["pre_tokenizer"] or {}).get("type") == "Metaspace":
        changed["pre_tokenizer"] = {**state["pre_tokenizer"], "prepend_scheme": "never"}
    return changed


def _text_normalizer(own: Any, template: PromptTemplate, strips: tuple[bool, bool]) -> Any:
    """Put what the prompts do to a text before the tokenizer's own normalizer.

    ``strips`` says whether white space is stripped from the beginning and from the end of the text.
    Of the cleaning steps, tokenizers offer "spaces" alone.
    """
    steps: list[Any] = []
    if "spaces" in template.task.clean:
        steps += [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    for first, pattern in template.guard.patterns():
        steps.append(normalizers.Replace(Regex(pattern), f"{first} "))
    if any(strips):
        steps.append(normalizers.Strip(*strips))
    return normalizers.Sequence([*steps, *([] if own is None else [own])]) if steps else own


def pipeline_predictions(folder: Path, texts: Sequence[str]) -> tuple[list[str], NDArray[np.float64]]:
    """Return what ``pipeline("text-classification", folder)`` predicts: labels (N,) and probabilities (N, K)."""
    classify = pipeline("text-classification", str(folder), device="cpu", trust_remote_code=False)
    names = [classify.model.config.id2label[index] for index in range(classify.model.config.num_labels)]
    rows = classify(list(texts), top_k=None, truncation=True, batch_size=_BATCH)
    shares = [{entry["label"]: entry["score"] for entry in row} for row in rows]
    return [row[0]["label"] for row in rows], np.array([[share[name] for name in names] for share in shares])
