"""A model's tokenizer, with all that ends a turn, from which prompt templates are built."""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerFast

from whinchat.prompts.template import PromptTemplate
from whinchat.recipe.schema import Recipe


@dataclass(frozen=True)
class ChatTokenizer:
    """A tokenizer with every token id that ends a turn, by the tokenizer or by the model's generation config."""

    tokenizer: PreTrainedTokenizerFast
    end_ids: frozenset[int]

    def template(
        self, recipe: Recipe, examples: Sequence[tuple[str, int]] = (), chat_template: str | None = None
    ) -> PromptTemplate:
        """Build the prompt template of ``recipe``; arguments and errors are those of ``PromptTemplate``.

        For a recipe with questions, the template is that of their first decision, and ``PromptTemplate.for_task`` makes
        those of the others.
        """
        task = recipe.task
        return PromptTemplate(
            self.tokenizer,
            task.of_decision(task.decisions[0]) if task.questions else task,
            end_ids=self.end_ids,
            max_prompt_tokens=recipe.backbone.max_prompt_tokens,
            model=recipe.backbone.model,
            examples=examples,
            chat_template=chat_template,
        )
