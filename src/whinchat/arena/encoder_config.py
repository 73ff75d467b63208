"""The encoder of an arena's method: which pre-trained model, and how it is trained.

The defaults are published ones; each key names its source.
"""

from typing import Literal

from pydantic import Field

from whinchat.recipe.field_types import Integer, NonEmpty, Real, Section, Text

_SOURCE = frozenset({"model", "revision", "max_length"})
# The keys of ``EncoderConfig`` that each kind of contestant reads.
ENCODER_KEYS = {
    "embeddings": _SOURCE,
    "setfit": _SOURCE | {"learning_rate", "per_device_train_batch_size", "max_pairs"},
    "encoder": _SOURCE | {"method", "learning_rate", "num_train_epochs", "per_device_train_batch_size", "warmup_steps"},
}
_MODEL_SECTIONS = ("adapter", "backbone", "train")
_OF_ENCODERS = ("train.class_weights", "backbone.device")
# The keys of these sections that a kind reads, by their beginnings; a kind that is not named here may read all.
_READ = {
    "majority": (),
    "tfidf": ("train.class_weights",),
    **dict.fromkeys(ENCODER_KEYS, _OF_ENCODERS),
    "prompting": ("backbone",),
    "full": ("backbone", "train"),
}


class EncoderConfig(Section):
    """The encoder of the kinds `embeddings`, `setfit` and `encoder`. Keys that the kind does not read are refused."""

    model: NonEmpty = Field(
        "package:all-minilm-l6-v2",
        description="The pre-trained encoder: OWNER/NAME on the Hugging Face hub, a local folder, or package:NAME for "
        "a model inside a PyPI package.",
    )
    revision: Text | None = Field(None, description="Commit, tag or branch of a hub model.")
    max_length: Integer = Field(
        256,
        ge=8,
        le=8192,
        description="Longest text in tokens; a longer text is truncated at its end. 256 is the limit of "
        "all-MiniLM-L6-v2's own settings.",
    )
    method: Literal["full", "lora"] = Field(
        "full",
        description="Kind encoder: train every weight, or LoRA on all linear layers and the whole head. LoRA has rank "
        "8, alpha 16 and dropout 0.1, as PEFT's example of sequence classification.",
    )
    learning_rate: Real | None = Field(
        None,
        gt=0,
        description="Largest learning rate. null takes 5e-5 for method full (BERT, Devlin et al. 2019, A.3), 5e-4 for "
        "lora (Hu et al. 2021, table 9), 2e-5 for kind setfit (the library's default).",
    )
    num_train_epochs: Real | None = Field(
        None,
        gt=0,
        description="Kind encoder: passes over the training rows. null takes 3 (BERT, A.3), and more of small sets, "
        "so that there are 200 optimizer steps: a few passes over few rows are too short (Zhang et al. 2021, "
        "Mosbach et al. 2021).",
    )
    per_device_train_batch_size: Integer = Field(
        16, ge=1, description="Rows of a batch; of kind setfit, pairs of a batch. 16 in all three papers."
    )
    warmup_steps: Real = Field(
        0.1,
        ge=0,
        description="Kind encoder: steps of linear warm-up, or their share if below 1; then the rate falls linearly to "
        "0. 0.1 is BERT's share.",
    )
    max_pairs: Integer = Field(
        4000,
        ge=100,
        description="Kind setfit: largest number of pairs of the one contrastive epoch. The paper draws 40 pairs for "
        "each row, which 4,000 allows up to 100 rows; a row of more gets fewer. From 2,001 rows on, pairs are "
        "drawn from max_pairs / 2 random rows. The regression always reads all rows.",
    )


def encoder_fault(kind: str, encoder: EncoderConfig | None) -> str | None:
    """Return what is wrong with the ``encoder`` of a method of ``kind``, or None: keys that the kind does not read."""
    if encoder is None:
        return None
    if kind not in ENCODER_KEYS:
        return f"encoder: only the kinds {', '.join(ENCODER_KEYS)} have an encoder, this is {kind}; leave it out"
    changed = (key for key, field in EncoderConfig.model_fields.items() if getattr(encoder, key) != field.default)
    unread = [key for key in changed if key not in ENCODER_KEYS[kind]]
    return f"encoder: kind {kind} does not read {', '.join(unread)}; leave it out" if unread else None


def unread_overrides(kind: str, keys: list[str]) -> list[str]:
    """Return the keys about model and training among ``keys``, keys of the recipe, that ``kind`` does not read."""
    about_models = [key for key in keys if key.partition(".")[0] in _MODEL_SECTIONS]
    return [key for key in about_models if not key.startswith(_READ.get(kind, _MODEL_SECTIONS))]
