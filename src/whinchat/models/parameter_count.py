"""The size of a model: of its loaded weights, or from its configuration alone, without a download."""

from pathlib import Path

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from whinchat.data.packages import PACKAGE_PREFIX, catalog_entry
from whinchat.errors import ModelError
from whinchat.models.config_checks import CONFIG_FAULTS, check_module_counts
from whinchat.models.gguf_import import conversion_target
from whinchat.models.shallow_model import shallow_settings


def parameter_size(parameter: nn.Parameter) -> int:
    """Return the number of elements; NF4 packs two into a byte."""
    return parameter.numel() * (2 if type(parameter).__name__ == "Params4bit" else 1)


def configured_model(model: str, revision: str | None = None, layers: int | None = None) -> PreTrainedModel | None:
    """Build the model that a configuration describes, on PyTorch's meta device, where a tensor takes no memory.

    Args:
        model: ``backbone.model`` of a recipe: a local folder, ``package:NAME``, or OWNER/NAME on the Hugging Face hub.
        revision: ``backbone.revision`` of the recipe.
        layers: ``backbone.layers`` of the recipe.

    Returns:
        The model. None where no ``config.json`` can be read without network (a hub model that is not in the hub's
        cache, a package whose model has not been fetched and converted yet), or where transformers does not know the
        architecture.

    Raises:
        DataError: ``model`` names a package that is not in the catalog.
    """
    path: str | Path = model
    if model.startswith(PACKAGE_PREFIX):
        path = conversion_target(Path(catalog_entry(model).filename))
    elif (local := Path(model).expanduser()).is_dir():
        path = local
    try:
        config = AutoConfig.from_pretrained(
            path, revision=revision or "main", local_files_only=True, trust_remote_code=False
        )
        check_module_counts(config, model)
        if layers is not None:
            config = AutoConfig.for_model(**shallow_settings(config.to_dict(), layers, model))
        with torch.device("meta"):
            skeleton: PreTrainedModel = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except (ModelError, *CONFIG_FAULTS):
        return None
    return skeleton
