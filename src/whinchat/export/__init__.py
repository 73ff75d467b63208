"""A trained classifier in the formats of others, each proved to answer alike."""

from typing import Literal

ExportFormat = Literal["merged", "classifier", "gguf", "onnx"]
# Of labels that flip: bfloat16 rounds otherwise where the same sums are made in another order.
TOLERANCE = 0.02
