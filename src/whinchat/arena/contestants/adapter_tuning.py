"""whinchat's own training: LoRA, DoRA, rsLoRA, PiSSA, on dense weights or NF4, as the recipe says."""

from __future__ import annotations

from whinchat.arena.contestants.chat_model import ChatModel
from whinchat.data.dataset import Split
from whinchat.models.adapters import attach_adapter, check_targets


class AdapterTuning(ChatModel):
    """The method of ``recipe.adapter``."""

    def fit(self, train: Split) -> int:
        """Attach a fresh adapter and train it."""
        check_targets(self.backbone.model, self.recipe.adapter)
        return self.train(attach_adapter(self.backbone.model, self.recipe.adapter, self.recipe.train.seed), train)
