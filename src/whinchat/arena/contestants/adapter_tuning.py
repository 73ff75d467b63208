"""whinchat's own training: LoRA, DoRA, rsLoRA or PiSSA, on dense or NF4 weights, as the recipe says."""

from __future__ import annotations

from whinchat.arena.contestants.chat_model import ChatModel
from whinchat.data.dataset import Split
from whinchat.models.adapters import attach_adapter, check_targets


class AdapterTuning(ChatModel):
    """The adapter that ``recipe.adapter`` describes."""

    def fit(self, train: Split) -> int:
        """Attach a new adapter and train it."""
        check_targets(self.backbone.model, self.recipe.adapter)
        return self.train(attach_adapter(self.backbone.model, self.recipe.adapter, self.recipe.train.seed), train)
