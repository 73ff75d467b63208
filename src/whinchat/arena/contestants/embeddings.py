"""Logistic regression on the sentence embeddings of an encoder, which is not trained.

N: texts. B: rows of a batch. T: tokens. H: width of the encoder.
"""

from collections.abc import Sequence
from copy import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from whinchat.arena.contestants.baselines import Regression
from whinchat.arena.contestants.contestant import Contestant
from whinchat.arena.spec import Method
from whinchat.models.device import plan_device
from whinchat.models.encoders import EncoderFolder, Pooling, load_encoder, open_encoder, pool, read_pooling
from whinchat.prompts.batching import by_length
from whinchat.recipe.schema import Recipe

BATCH = 64


class Embeddings(Regression):
    """Embeds texts as the encoder's settings for sentence-transformers say: by the mean of all tokens, or the first."""

    def __init__(self, method: Method, recipe: Recipe) -> None:
        super().__init__(method, recipe)
        self.options = method.encoder_settings
        # Only the device of the plan is used; the data types are those of a chat model.
        self.device = plan_device(recipe.backbone.model_copy(update={"load_in": "float32"})).device

    def load(self) -> None:
        """Fetch and load the encoder."""
        self.open()
        self._body = load_encoder(self._folder).to(self.device)
        self.notes["embeddings"] = f"{self._pooling} pooling, {self._folder.max_length} tokens at most"
        # The decisions of a task with questions ask for the same texts.
        self._embedded: dict[str, NDArray[np.float32]] = {}

    def open(self) -> None:
        """Fetch the encoder and read how it pools tokens, without its weights."""
        self._folder = open_encoder(self.options.model, self.options.revision, self.options.max_length)
        self.model_commit = self._folder.commit
        self._pooling = read_pooling(self._folder)

    def copied(self) -> Contestant:
        """Return a copy with the same encoder and the same embeddings."""
        return copy(self)

    def features(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the embeddings of the cleaned texts, (N, H)."""
        cleaned = self.clean(texts)
        if new := [text for text in dict.fromkeys(cleaned) if text not in self._embedded]:
            self._embedded |= zip(new, embed(self._body, self._folder, new, self._pooling), strict=True)
        return np.stack([self._embedded[text] for text in cleaned])

    def parameters(self) -> tuple[int, int]:
        """Return the number of parameters of encoder and regression, and of the regression, which alone is trained."""
        trained, _ = super().parameters()
        return sum(weight.numel() for weight in self._body.parameters()) + trained, trained


def embed(encoder: Any, folder: EncoderFolder, texts: Sequence[str], pooling: Pooling) -> NDArray[np.float32]:
    """Return embeddings of unit length, (N, H), of the encoder's last layer.

    Source: Sentence-BERT, section 3 (arXiv:1908.10084), with the settings that come with the model.
    """
    ids = folder.token_ids(list(texts))
    embedded = np.empty((len(ids), encoder.config.hidden_size), dtype=np.float32)
    with torch.inference_mode():
        for rows in by_length([len(tokens) for tokens in ids], BATCH):
            padded = folder.tokenizer.pad({"input_ids": [ids[row] for row in rows]}, return_tensors="pt")
            padded = padded.to(encoder.device)
            hidden = encoder(**padded).last_hidden_state  # (B, T, H)
            embedded[rows] = pool(hidden, padded["attention_mask"], pooling).cpu().numpy()
    return embedded
