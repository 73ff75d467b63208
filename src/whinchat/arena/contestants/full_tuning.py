"""Full fine-tuning: every weight of the chat model is trained, with the batches and the loss of the adapters."""

from __future__ import annotations

from whinchat.arena.contestants.chat_model import ChatModel
from whinchat.data.dataset import Split
from whinchat.models.device import plan_device
from whinchat.recipe.schema import BackboneConfig


class FullTuning(ChatModel):
    """Trains float32 weights and multiplies in the data type in which an adapter's base model would be held.

    Weights in bfloat16 would lose updates, which are often smaller than the last of its 8 bits.
    """

    def backbone_config(self) -> BackboneConfig:
        """Return the recipe's backbone with float32 weights and its own data type for products."""
        backbone = self.recipe.backbone
        return backbone.model_copy(update={"load_in": "float32", "compute_dtype": plan_device(backbone).compute_dtype})

    def fit(self, train: Split) -> int:
        """Train every weight, through the plain forward pass: the packed one needs frozen weights."""
        return self.train(self.backbone.model.requires_grad_(True), train)
