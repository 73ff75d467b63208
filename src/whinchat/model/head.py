"""The output layer in full precision."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


class FloatHead(nn.Module):
    """A frozen output layer that multiplies in float32, whatever the weights are held in and autocast says.

    In bfloat16 a logit near 16 moves in steps of 0.125, so labels tie and probabilities come in lumps. Only answers
    get logits, so the price is small: 15 ms a batch on two cores for SmolLM2-135M.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        # The same parameters, so a head tied to the embeddings stays tied.
        self.weight = linear.weight
        self.bias = linear.bias

    def forward(self, hidden: Tensor) -> Tensor:
        """Logits (..., V), float32, from hidden states (..., H)."""
        with torch.autocast(hidden.device.type, enabled=False):
            bias = None if self.bias is None else self.bias.float()
            return F.linear(hidden.float(), self.weight.float(), bias)
