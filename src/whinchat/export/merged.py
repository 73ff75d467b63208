"""One model without an adapter: base and adapter added up in float32, whatever the adapter was trained on."""

from __future__ import annotations

from pathlib import Path

from transformers import PreTrainedModel

from whinchat.models.adapters import load_adapter
from whinchat.models.backbone import Backbone, load_backbone
from whinchat.recipe.loader import write_recipe
from whinchat.storage.locate import SavedClassifier


def merge(found: SavedClassifier) -> tuple[PreTrainedModel, Backbone]:
    """The merged model in float32 on the CPU, and the backbone it came from.

    An adapter trained on NF4 weights is added to the full ones: a fourth of a bit of rounding less, not the same model.

    Raises:
        ModelError: the backbone cannot be had, or the adapter does not fit it.
    """
    full = {"load_in": "float32", "compute_dtype": "float32", "device": "cpu"}
    backbone = load_backbone(found.recipe.backbone.model_copy(update=full))
    if not found.has_adapter:
        return backbone.model, backbone
    tuned = load_adapter(backbone.model, found.folder)
    merged: PreTrainedModel = tuned.merge_and_unload(safe_merge=True)
    return merged, backbone


def write_merged(model: PreTrainedModel, backbone: Backbone, found: SavedClassifier, folder: Path) -> None:
    """Weights, tokenizer and chat template as transformers reads them; recipe and calibration as whinchat does."""
    model.save_pretrained(folder)
    backbone.tokenizer.tokenizer.save_pretrained(folder)
    held = {"load_in": str(model.dtype).removeprefix("torch."), "compute_dtype": "auto"}
    recipe = found.recipe.model_copy(update={"backbone": found.recipe.backbone.model_copy(update=held)})
    write_recipe(recipe, folder)
