"""Export format "onnx": the folder of format "classifier" with an ONNX graph in place of the weights.

The graph takes token ids and returns a logit for each label; running it needs onnxruntime and a tokenizer, not torch.

B: texts of a batch. T: tokens of the longest; the others are padded on the right. K: labels. N: texts.
"""

import logging
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from whinchat.errors import ModelError
from whinchat.export.exporter import ExportJob, FileProof
from whinchat.export.sequence_classifier import SequenceClassifierExporter, strips_ends, write_sequence_classifier
from whinchat.progress import track

# The name that transformers.js and optimum look for.
FILE = "model.onnx"
_INPUTS = ("input_ids", "attention_mask")
# A protobuf file holds at most 2 GiB, graph included; larger weights go to a file of their own.
_LARGEST_FILE = 2**31 - 2**24
_BATCH = 16


class OnnxExporter(SequenceClassifierExporter):
    """Writes the classification folder in float32, and its weights as an ONNX graph."""

    name = "onnx"

    def write(self, job: ExportJob) -> None:
        """Write the folder, then replace its weights by the graph."""
        write_sequence_classifier(job, torch.float32)
        replace_weights_by_graph(job.folder)

    def prove(self, job: ExportJob) -> tuple[FileProof, ...]:
        """Predict with onnxruntime."""
        labels, shares = onnx_predictions(job.folder, job.texts)
        reader = f"onnxruntime {version('onnxruntime')}"
        strips = strips_ends(job.folder, job.predictor.engine.template)
        return (job.compare(FILE, reader, labels, shares, ends_stripped=strips),)


EXPORTER = OnnxExporter()


def replace_weights_by_graph(folder: Path) -> None:
    """Write ``model.onnx`` to the classification folder ``folder``, and delete its weights."""
    model = AutoModelForSequenceClassification.from_pretrained(
        folder, dtype=torch.float32, trust_remote_code=False
    ).eval()
    size = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    # Any ids will do. Two rows and eight columns, because torch takes a size of one for a constant.
    example = torch.arange(16).reshape(2, 8)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # torch warns about its own code, and about dynamic axes that share a name.
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                _Logits(model),
                (example, torch.ones_like(example)),
                dynamo=True,
                input_names=_INPUTS,
                output_names=("logits",),
                dynamic_shapes=({0: "batch", 1: "sequence"},) * 2,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError:
            program = None
    if program is None:
        raise ModelError(
            f"onnx: torch cannot write {type(model).__name__} as a graph, as with experts that a text chooses; export "
            "classifier instead"
        )
    program.save(folder / FILE, external_data=size > _LARGEST_FILE)
    for weights in folder.glob("*.safetensors*"):
        weights.unlink()


class _Logits(nn.Module):
    """A classification model that takes and returns plain tensors."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the logits, (B, K), of token ids and mask, both (B, T)."""
        logits: Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).logits
        return logits


def onnx_predictions(folder: Path, texts: Sequence[str]) -> tuple[list[str], NDArray[np.float64]]:
    """Return what tokenizer, onnxruntime and a softmax predict: labels (N,) and probabilities (N, K)."""
    import onnxruntime  # an optional extra

    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    names = AutoConfig.from_pretrained(folder, trust_remote_code=False).id2label
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(folder / FILE, settings, providers=["CPUExecutionProvider"])
    logits = []
    for start in track(range(0, len(texts), _BATCH), f"Reading {FILE}", "batches"):
        inputs = tokenizer(list(texts[start : start + _BATCH]), truncation=True, padding=True, return_tensors="np")
        logits += session.run(["logits"], {name: inputs[name] for name in _INPUTS})
    shares: NDArray[np.float64] = softmax(np.concatenate(logits).astype(np.float64), axis=1)
    return [names[best] for best in shares.argmax(axis=1)], shares
