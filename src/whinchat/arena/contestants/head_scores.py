"""The answers of a model with a classification head.

B: rows of a batch. N: texts. K: labels.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from whinchat.errors import ModelError
from whinchat.models.device import DevicePlan
from whinchat.models.forward import inference
from whinchat.models.plain_forward import autocast
from whinchat.prompts.batching import by_length

Features = dict[str, Any]


def head_log_probs(
    model: nn.Module,
    plan: DevicePlan,
    rows: Sequence[Features],
    collate: Callable[[list[Features]], Any],
    labels: int,
    batch_size: int,
) -> NDArray[np.float64]:
    """Return log-probabilities, (N, K); the probabilities of a text add up to one.

    Args:
        model: a model of transformers with a classification head.
        plan: its device and data types.
        rows: the token ids of each text under ``input_ids``, N.
        collate: pads some rows to a batch.
        labels: K.
        batch_size: largest number of rows of a batch.

    Raises:
        ModelError: a score is not finite.
    """
    scores = np.empty((len(rows), labels))
    with inference(model), autocast(plan):
        for batch in by_length([len(row["input_ids"]) for row in rows], batch_size):
            inputs = collate([rows[row] for row in batch]).to(plan.device)
            logits = model(**inputs).logits.double()  # (B, K)
            scores[batch] = logits.log_softmax(dim=1).cpu().numpy()
    if not np.isfinite(scores).all():
        raise ModelError("the classification head's scores are not finite numbers")
    return scores
