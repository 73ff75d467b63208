"""Show one training example as the model sees it."""

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from whinchat.data.sources import load_corpus, require_row
from whinchat.errors import RecipeError
from whinchat.models.backbone import find_model, load_tokenizer
from whinchat.recipe.schema import Recipe
from whinchat.storage.json_records import to_json


@dataclass(frozen=True)
class InspectedExample:
    """One training example: its prompt and its answer, token by token.

    Attributes:
        row: index of the training row.
        text: the text as it is in the data.
        label: the label as it is in the data, after ``data.label_map``.
        input_ids: token ids of the prompt, the answer and the end of the turn.
        tokens: each of ``input_ids`` as text.
        supervised: for each of ``input_ids``, whether the loss counts it. The prompt is read but not supervised.
        truncated_tokens: how many tokens of the text were cut to fit ``backbone.max_prompt_tokens``.
        escaped_control_tokens: how many control tokens in the text were broken up, so that they act as plain text.
    """

    row: int
    text: str
    label: str
    input_ids: tuple[int, ...]
    tokens: tuple[str, ...]
    supervised: tuple[bool, ...]
    truncated_tokens: Annotated[int, Field(alias="shortened")]
    escaped_control_tokens: Annotated[int, Field(alias="defused")]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types, under the keys of ``whinchat inspect --json``."""
        content: dict[str, Any] = to_json(self)
        return content


def inspect_example(recipe: Recipe, row: int = 0) -> InspectedExample:
    """Return training row ``row`` as the model sees it. This loads the tokenizer, but not the weights.

    Args:
        recipe: data, task and model.
        row: index of the training row, from 0.

    Raises:
        DataError: the data cannot be read, or the training split has no such row.
        ModelError: the tokenizer cannot be loaded.
        PromptError: the prompt cannot be built.
        RecipeError: the task has questions, which ``inspect_questions`` shows.
    """
    if recipe.task.questions:
        raise RecipeError("task.questions: an example has a prompt for each question; use inspect_questions")
    train = load_corpus(recipe).train
    require_row(train, row)
    template = load_tokenizer(find_model(recipe.backbone)).template(recipe)
    prompt = template.encode([train.texts[row]])[0]
    label = train.labels[row]
    answer = (*template.answers[label], template.end_of_turn)
    input_ids = (*prompt.ids, *answer)
    return InspectedExample(
        row=row,
        text=train.texts[row],
        label=recipe.task.labels[label],
        input_ids=input_ids,
        tokens=tuple(template.tokenizer.decode([token]) for token in input_ids),
        supervised=(False,) * len(prompt.ids) + (True,) * len(answer),
        truncated_tokens=prompt.truncated_tokens,
        escaped_control_tokens=prompt.escaped_control_tokens,
    )
