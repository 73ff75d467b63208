"""The untrained chat model, prompted with the instruction alone, or with examples before the text."""

from __future__ import annotations

from whinchat.arena.contestants.chat_model import ChatModel
from whinchat.arena.subsets import draw_examples
from whinchat.data.dataset import Split
from whinchat.errors import PromptError
from whinchat.models.forward import Engine
from whinchat.prompts.template import PromptTemplate


class Prompting(ChatModel):
    """Zero-shot, or few-shot with ``method.shots`` examples of each label, which are the prefix of every prompt."""

    family = "prompting"

    def fit(self, train: Split) -> int:
        """Draw the examples and return their number; nothing is trained."""
        examples = draw_examples(train, self.method.shots, self.recipe.task.labels) if self.method.shots else []
        template = self.backbone.tokenizer.template(self.recipe, examples)
        self._check_room(template)
        self.engine = Engine.build(self.backbone.model, self.backbone.plan, template)
        self.notes["examples"] = str(len(examples))
        return len(examples)

    def parameters(self) -> tuple[int, int]:
        """Return the number of the model's parameters, none of which is trained."""
        return super().parameters()[0], 0

    def _check_room(self, template: PromptTemplate) -> None:
        limit = getattr(self.backbone.model.config, "max_position_embeddings", None)
        needed = template.max_prompt_tokens + max(map(len, template.answers))
        if limit is not None and needed > limit:
            raise PromptError(
                f"shots: with {self.method.shots} examples of each label a prompt may reach {needed:,} tokens, the "
                f"model was made for {limit:,}; lower shots or backbone.max_prompt_tokens"
            )
