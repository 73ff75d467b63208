"""whinchat's own training: LoRA, DoRA, rsLoRA, PiSSA, on dense weights or NF4, as the recipe says."""

from __future__ import annotations

from whinchat.arena.contestants.chat import ChatModel
from whinchat.data.records import Split
from whinchat.model.adapter import attach, check_targets


class Adapter(ChatModel):
    """The method of ``recipe.adapter``."""

    def fit(self, train: Split) -> int:
        """Attach a fresh adapter and train it."""
        check_targets(self.backbone.model, self.recipe.adapter)
        return self.train(attach(self.backbone.model, self.recipe.adapter, self.recipe.train.seed), train)
