"""The output layer with float32 logits. M: tokens that get logits. H: width of the model. V: vocabulary."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from threading import Lock
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  # the name that PyTorch code uses
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from whinchat.models.packed.autograd import InferenceAwareFunction

# Rows of the weight converted to float32 at a time: on a CPU few enough to stay in a core's cache until they are
# multiplied, on an accelerator enough to need few kernels.
_CHUNK_ROWS = 512
_DEVICE_CHUNK_ROWS = 16_384
# Up to this many tokens, a float32 product costs less than rearranging the weight for a bfloat16 product.
_FLOAT32_TOKENS = 8
_PRECISION_LOCK = Lock()


class FloatHead(nn.Linear):
    """A frozen output layer that computes float32 logits, whatever the data type of its weights and of autocast.

    PEFT adapts it as the linear layer that it is.

    Logits in bfloat16 would be multiples of 0.125 near 16, so labels would tie and probabilities would be coarse.
    """

    def __init__(self, linear: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        # Shared, not copied, so a head that is tied to the embeddings stays tied.
        self.weight = linear.weight
        self.bias = linear.bias

    def forward(self, hidden: Tensor) -> Tensor:
        """Return logits, float32, (..., V), from hidden states (..., H)."""
        with torch.autocast(hidden.device.type, enabled=False):
            if hidden.dtype == self.weight.dtype and hidden.dtype in (torch.bfloat16, torch.float16):
                logits = _NarrowProduct.apply(hidden, self.weight)
                return logits if self.bias is None else logits + self.bias.float()
            bias = None if self.bias is None else self.bias.float()
            return F.linear(hidden.float(), self.weight.float(), bias)


def read_logits(head: Any, hidden: Tensor, vocabulary: tuple[int, ...] | None) -> Tensor:
    """Compute logits for the whole vocabulary, or cheaply for a few tokens of it.

    Args:
        head: the model's output layer.
        hidden: hidden states, (..., H).
        vocabulary: token ids to compute logits for; None for the whole vocabulary.

    Returns:
        Logits, (..., V) or (..., len(vocabulary)).
    """
    if vocabulary is None or type(head) not in (FloatHead, nn.Linear):
        logits: Tensor = head(hidden)
        return logits if vocabulary is None else logits[..., list(vocabulary)]
    rows = list(vocabulary)
    # A matrix product with so few columns would round a row's sums differently, depending on the number of rows.
    logits = (hidden.float().unsqueeze(-2) * head.weight[rows].float()).sum(dim=-1)
    return logits if head.bias is None else logits + head.bias[rows].float()


class _NarrowProduct(InferenceAwareFunction):
    """``hidden @ weight.T`` of bfloat16 or float16 factors, with a float32 result."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor) -> Tensor:
        """Return the product, float32, (..., V), from hidden (..., H) and weight (V, H)."""
        ctx.save_for_backward(weight)
        if hidden.device.type == "cuda":
            # The kernel reads narrow factors and writes float32 sums, so no float32 copy of the weight is made.
            shaped: Tensor = torch.mm(hidden.flatten(0, -2), weight.T, out_dtype=torch.float32)
            return shaped.view(*hidden.shape[:-1], -1)
        rows = hidden.flatten(0, -2).float()  # (M, H)
        logits = rows.new_empty(len(rows), len(weight))
        chunk_rows = _CHUNK_ROWS if hidden.device.type == "cpu" else _DEVICE_CHUNK_ROWS
        buffer = rows.new_empty(chunk_rows, weight.shape[1])
        bfloat16 = hidden.device.type == "cpu" and weight.dtype == torch.bfloat16 and len(rows) > _FLOAT32_TOKENS
        with _multiply_as_bfloat16() if bfloat16 else nullcontext():
            for chunk, out in zip(weight.split(chunk_rows), logits.split(chunk_rows, dim=1), strict=True):
                torch.mm(rows, buffer[: len(chunk)].copy_(chunk).T, out=out)
        return logits.view(*hidden.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """Return the gradient of the hidden states, (..., H), in their data type."""
        (weight,) = ctx.saved_tensors
        return grad.to(weight.dtype) @ weight, None


@contextmanager
def _multiply_as_bfloat16() -> Iterator[None]:
    """Let oneDNN multiply float32 factors as bfloat16 with float32 sums: exact for factors that come from bfloat16."""
    matmul = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]  # torch has no types for it
    # The setting belongs to the whole process, so one thread at a time may change it.
    with _PRECISION_LOCK:
        before = matmul.fp32_precision
        matmul.fp32_precision = "bf16"
        try:
            yield
        finally:
            matmul.fp32_precision = before
