"""What a recipe's model needs of this machine, checked without loading torch or the package that is asked for."""

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from whinchat.data.packages import PACKAGE_PREFIX, catalog_entry
from whinchat.errors import ModelError
from whinchat.recipe.model_config import BackboneConfig

# The sections with a key ``model``: of a recipe, and of an arena's method.
ModelSection = Literal["backbone", "encoder"]
_WITHOUT_HUB = {"backbone": "package:smollm2-135m-instruct", "encoder": "package:all-minilm-l6-v2"}
# Base name of the weights of a package's encoder; chat models inside packages are GGUF files.
ENCODER_FILE = "model.safetensors"


def require_backbone(backbone: BackboneConfig) -> None:
    """Check that the model can be looked for, and that the package for its data type is installed.

    Raises:
        ModelError: ``backbone.model`` is neither a model folder nor OWNER/NAME, or bitsandbytes is not installed.
        DataError: there is no such package.
    """
    if backbone.load_in == "nf4" and find_spec("bitsandbytes") is None:
        raise missing_bitsandbytes("is not installed")
    if backbone.model.startswith(PACKAGE_PREFIX):
        catalog_entry(backbone.model.removeprefix(PACKAGE_PREFIX))
    else:
        local_model_folder(backbone.model)


def require_encoder(model: str) -> None:
    """Check that an arena's encoder can be looked for.

    Args:
        model: OWNER/NAME on the hub, a model folder, or package:NAME.

    Raises:
        ModelError: ``model`` is none of these, or the package holds another kind of model.
        DataError: there is no such package.
    """
    if not model.startswith(PACKAGE_PREFIX):
        local_model_folder(model, "encoder")
    elif catalog_entry(model).filename != ENCODER_FILE:
        raise ModelError(f"encoder.model: {model} holds no encoder; package:all-minilm-l6-v2 does")


def is_hub_model(model: str) -> bool:
    """Return whether ``model`` is neither a package's nor a folder, so that only the hub can have it."""
    return not model.startswith(PACKAGE_PREFIX) and not Path(model).expanduser().is_dir()


def require_setfit() -> None:
    """Check that the packages of kind setfit are installed.

    Raises:
        ModelError: one of them is not.
    """
    if missing := [package for package in ("setfit", "sentence_transformers") if find_spec(package) is None]:
        raise ModelError(
            f"kind: setfit needs the package {missing[0]}, which is not installed; `pip install 'whinchat[setfit]'`, "
            "or leave the method out"
        )


def missing_bitsandbytes(reason: str) -> ModelError:
    """Return the error for NF4 weights without a bitsandbytes that works."""
    return ModelError(
        f"backbone.load_in: nf4 needs the package bitsandbytes, which {reason}; `pip install 'whinchat[nf4]'`, or set "
        "backbone.load_in=auto"
    )


def local_model_folder(name: str, section: ModelSection = "backbone") -> Path | None:
    """Return the folder that ``backbone.model`` names, or None if it reads OWNER/NAME.

    Args:
        name: the value of the key ``model``.
        section: the section of the key, for messages.

    Raises:
        ModelError: the folder is missing, or holds no model.
    """
    if (local := Path(name).expanduser()).is_dir():
        if not (local / "config.json").is_file():
            raise ModelError(f"{local}: no config.json, so this is no model folder; save one with save_pretrained")
        return local
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise ModelError(
            f"{section}.model: {name} is neither a folder nor OWNER/NAME on the hub; "
            f"offline, {_WITHOUT_HUB[section]} works everywhere"
        )
    return None
