"""The classification folder as an ONNX graph: token ids in, a logit for each label out, nothing of torch needed.

B: texts of a batch. T: their tokens, padded on the right. K: labels. N: texts.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from whinchat.errors import ModelError
from whinchat.progress import track

# Where transformers.js and optimum look for it.
FILE = "model.onnx"
_INPUTS = ("input_ids", "attention_mask")
# The most that one protobuf file holds, graph included; larger weights lie beside it.
_LARGEST_FILE = 2**31 - 2**24
_BATCH = 16


def require_onnx() -> None:
    """Check that what writes and runs ONNX is installed.

    Raises:
        ModelError: it is not.
    """
    if missing := [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]:
        raise ModelError(f"onnx: needs {', '.join(missing)}; pip install 'whinchat[onnx]'")


def to_onnx(folder: Path) -> None:
    """Put ``model.onnx`` in the place of the weights of the classification folder ``folder``."""
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    size = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    # Any ids will do; two rows and eight columns, so that no size of one is taken for a constant.
    example = torch.arange(16).reshape(2, 8)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # About torch's own code, and axes that keep one name.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            _Logits(model),
            (example, torch.ones_like(example)),
            dynamo=True,
            input_names=_INPUTS,
            output_names=("logits",),
            dynamic_shapes=({0: "batch", 1: "sequence"},) * 2,
            verbose=False,
        )
    if program is None:
        raise ModelError("onnx: torch could not write this model as a graph; export classifier instead")
    program.save(folder / FILE, external_data=size > _LARGEST_FILE)
    for weights in folder.glob("*.safetensors*"):
        weights.unlink()


class _Logits(nn.Module):
    """A classification model that takes and gives plain tensors."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits (B, K) of token ids and mask, both (B, T)."""
        logits: Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).logits
        return logits


def onnx_reader() -> str:
    """What the file is read with."""
    return f"onnxruntime {version('onnxruntime')}"


def onnx_predictions(folder: Path, texts: Sequence[str]) -> tuple[list[str], NDArray[np.float64]]:
    """What tokenizer, onnxruntime and a softmax say: labels (N,) and probabilities (N, K), in label order."""
    import onnxruntime

    tokenizer = AutoTokenizer.from_pretrained(folder)
    names = AutoConfig.from_pretrained(folder).id2label
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(folder / FILE, settings, providers=["CPUExecutionProvider"])
    logits = []
    for at in track(range(0, len(texts), _BATCH), f"Reading {FILE}", "batches"):
        inputs = tokenizer(list(texts[at : at + _BATCH]), truncation=True, padding=True, return_tensors="np")
        logits += session.run(["logits"], {name: inputs[name] for name in _INPUTS})
    shares: NDArray[np.float64] = softmax(np.concatenate(logits).astype(np.float64), axis=1)
    return [names[best] for best in shares.argmax(axis=1)], shares
