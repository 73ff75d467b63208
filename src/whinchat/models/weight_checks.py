"""Checks of weights that come from elsewhere: which files hold them, and whether they are finite numbers."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from whinchat.errors import ModelError

# The data types of weights that are not quantized.
FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
# What torch, TensorFlow and Flax write by pickling, or in formats that only their own programs read.
_PICKLES = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".h5", ".msgpack", ".npz"}
_CONVERT = {
    "adapter_model.safetensors": "safetensors.torch.save_file(torch.load(FILE, weights_only=True), "
    '"adapter_model.safetensors")',
    "model.safetensors": "AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER)",
}


def require_safetensors(folder: Path, wanted: str, name: str) -> None:
    """Check that ``folder`` holds weights as safetensors; no pickle is opened, since reading one can run its code.

    Args:
        folder: the folder of a model or an adapter.
        wanted: name of the file of weights.
        name: name of the model or adapter in error messages.

    Raises:
        ModelError: the file is missing; the message names pickles that lie in its place, and how to convert them.
    """
    if (folder / wanted).is_file():
        return
    pickles = sorted(file.name for file in folder.iterdir() if file.suffix in _PICKLES)
    if not pickles:
        raise ModelError(f"{name}: has no {wanted}; fetch it again")
    raise ModelError(
        f"{name}: has no {wanted}, only {listed(pickles)}, a format that can run code when it is read; if you trust "
        f"its author, convert it with {_CONVERT[wanted]}"
    )


def is_finite(tensor: Tensor) -> bool:
    """Return whether ``tensor`` holds no NaN and no infinity; one pass, without a copy."""
    if not tensor.is_floating_point() or tensor.is_meta or not tensor.numel():
        return True
    smallest, largest = torch.aminmax(tensor.detach())  # NaN where one value is NaN
    return bool(torch.isfinite(smallest) & torch.isfinite(largest))


def shown(value: object) -> str:
    """Return ``value`` of a stranger's file for a message, on one line and cut short."""
    text = value if isinstance(value, str) else repr(value)
    return " ".join(text[:100].split())


def listed(names: Sequence[object]) -> str:
    """Return the first three names, and how many more there are."""
    return ", ".join(map(shown, names[:3])) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
