"""What a recipe's model needs of this machine, checked without loading torch or the package that is asked for."""

from importlib.util import find_spec
from pathlib import Path

from whinchat.data.packages import PACKAGE_PREFIX, catalog_entry
from whinchat.errors import ModelError
from whinchat.recipe.model_config import BackboneConfig


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


def missing_bitsandbytes(reason: str) -> ModelError:
    """Return the error for NF4 weights without a bitsandbytes that works."""
    return ModelError(
        f"backbone.load_in: nf4 needs the package bitsandbytes, which {reason}; `pip install 'whinchat[nf4]'`, or set "
        "backbone.load_in=auto"
    )


def local_model_folder(name: str) -> Path | None:
    """Return the folder that ``backbone.model`` names, or None if it reads OWNER/NAME.

    Raises:
        ModelError: the folder is missing, or holds no model.
    """
    if (local := Path(name).expanduser()).is_dir():
        if not (local / "config.json").is_file():
            raise ModelError(f"{local}: no config.json, so this is no model folder; save one with save_pretrained")
        return local
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise ModelError(
            f"backbone.model: {name} is neither a folder nor OWNER/NAME on the hub; "
            "offline, package:smollm2-135m-instruct works everywhere"
        )
    return None
