"""whinchat's own training: LoRA, DoRA, rsLoRA, PiSSA, on dense weights or NF4, as the recipe says."""

from __future__ import annotations

from whinchat.arena.contestants.chat import ChatModel
from whinchat.data.records import Split
from whinchat.model.adapter import attach, check_targets
from whinchat.model.engine import Engine


class Adapter(ChatModel):
    """The method of ``recipe.adapter``."""

    def fit(self, train: Split) -> int:
        """Attach a fresh adapter and train it."""
        check_targets(self.backbone.model, self.recipe.adapter)
        model = attach(self.backbone.model, self.recipe.adapter, self.recipe.train.seed)
        template = self.backbone.tokenizer.template(self.recipe)
        self.engine = Engine.build(model, self.backbone.plan, template)
        self.train(train, self.validation)
        return len(train)
