"""Sentence embeddings of all-MiniLM-L6-v2 with logistic regression on top; the encoder stays as it is.

n: texts. B: rows of a batch. T: tokens. H: width of the encoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

from whinchat.arena.contestants import regression
from whinchat.arena.contestants.contestant import Contestant
from whinchat.arena.spec import Method
from whinchat.data.dataset import Split
from whinchat.data.packages import fetch_package_file
from whinchat.models.device import plan_device
from whinchat.prompts.batching import by_length
from whinchat.recipe.schema import Recipe

PACKAGE = "all-minilm-l6-v2"
# As sentence-transformers' own settings for this model say (sentence_bert_config.json).
LONGEST = 256
BATCH = 64


class MiniLM(Contestant):
    """The encoder comes out of a PyPI package, so no hub is needed."""

    def __init__(self, method: Method, recipe: Recipe) -> None:
        super().__init__(method, recipe)
        # Of a chat model's plan, only where it is.
        self.device = plan_device(recipe.backbone.model_copy(update={"load_in": "float32"})).device

    def load(self) -> None:
        """Fetch and load the encoder."""
        folder = fetch_package_file(PACKAGE).parent
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._encoder = AutoModel.from_pretrained(folder, dtype=torch.float32).eval().to(self.device)

    def fit(self, train: Split) -> int:
        """Embed and fit the regression, C chosen by cross-validation."""
        pipeline = Pipeline([("classifier", regression.make_regression(self.recipe))])
        self._fitted, self.notes["regression"] = regression.fit_regression(
            pipeline, self._embedded(train.texts), train.labels, self.recipe
        )
        return len(train)

    def answer(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """(n, K)."""
        return regression.log_probabilities(self._fitted, self._embedded(texts), len(self.recipe.task.labels))

    def parameters(self) -> tuple[int, int]:
        """The encoder's and the regression's; only these train."""
        trained = regression.count_weights(self._fitted)
        return sum(weight.numel() for weight in self._encoder.parameters()) + trained, trained

    def _embedded(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return embed(self._encoder, self._tokenizer, self.cleaned(texts))


def embed(encoder: Any, tokenizer: Any, texts: Sequence[str]) -> NDArray[np.float32]:
    """Embeddings of unit length, (n, H): the mean over the tokens of the last layer, padding left out.

    Source: Sentence-BERT, section 3 (arXiv:1908.10084), in the settings that come with the model.
    """
    ids = tokenizer(list(texts), truncation=True, max_length=LONGEST)["input_ids"] if texts else []
    embedded = np.empty((len(ids), encoder.config.hidden_size), dtype=np.float32)
    with torch.inference_mode():
        for rows in by_length([len(one) for one in ids], BATCH):
            padded = tokenizer.pad({"input_ids": [ids[row] for row in rows]}, return_tensors="pt").to(encoder.device)
            hidden = encoder(**padded).last_hidden_state  # (B, T, H)
            embedded[rows] = pool(hidden, padded["attention_mask"]).cpu().numpy()
    return embedded


def pool(hidden: Tensor, mask: Tensor) -> Tensor:
    """Means of unit length, (B, H), of hidden states (B, T, H) where ``mask`` (B, T) is 1."""
    present = mask.unsqueeze(-1).to(hidden.dtype)
    means = (hidden * present).sum(dim=1) / present.sum(dim=1)
    return torch.nn.functional.normalize(means, dim=1)
