"""Full fine-tuning: every weight of the chat model trains, by the same batches and loss as the adapters."""

from __future__ import annotations

from whinchat.arena.contestants.chat_model import ChatModel
from whinchat.data.dataset import Split
from whinchat.models.device import plan_device
from whinchat.recipe.schema import BackboneConfig


class FullTuning(ChatModel):
    """Master weights in float32, multiplied in the narrow type that an adapter's model would be held in.

    bfloat16 keeps 8 bits of a weight, and an update is often smaller than the last of them.
    """

    def wanted(self) -> BackboneConfig:
        """float32 weights, and the recipe's data type of products."""
        backbone = self.recipe.backbone
        return backbone.model_copy(update={"load_in": "float32", "compute_dtype": plan_device(backbone).compute_dtype})

    def fit(self, train: Split) -> int:
        """Train every weight; the packed forward pass is for frozen ones and stands aside."""
        return self.train(self.backbone.model.requires_grad_(True), train)
