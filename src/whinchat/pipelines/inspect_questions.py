"""Show the data of a recipe with questions, and the prompts of one training text as the model sees them."""

from dataclasses import dataclass
from typing import Any

from whinchat.data.checks import answer_counts, rare_answer_warnings
from whinchat.data.sources import load_corpus, require_row
from whinchat.errors import RecipeError
from whinchat.models.backbone import find_model, load_tokenizer
from whinchat.prompts.batching import shared_prefix
from whinchat.recipe.schema import Recipe
from whinchat.storage.json_records import to_json


@dataclass(frozen=True)
class InspectedDecision:
    """The prompt with which one decision about a text is asked, and its answer in the data.

    Attributes:
        title: the question, with the option of a multi question, such as ``tags: refund``.
        answer: the label; None where the data has no answer.
        shares: the share of each label where the answer is not certain; empty elsewhere.
        prompt: the whole prompt as text.
        prompt_tokens: number of tokens of the prompt.
        answer_tokens: number of tokens of each label's answer, with the end of the turn.
        truncated_tokens: how many tokens of the text were cut to fit ``backbone.max_prompt_tokens``.
        escaped_control_tokens: how many control tokens in the text were broken up, so that they act as plain text.
    """

    title: str
    answer: str | None
    shares: dict[str, float]
    prompt: str
    prompt_tokens: int
    answer_tokens: dict[str, int]
    truncated_tokens: int
    escaped_control_tokens: int


@dataclass(frozen=True)
class InspectedQuestions:
    """The data of a recipe with questions, and the prompts of one training text.

    Attributes:
        row: index of the training row.
        text: the text as the data has it, made of its columns where ``data.text`` says so.
        decisions: the decisions of all questions, in their order.
        shared_tokens: number of tokens at the beginning of the prompts that all of them share. They are computed once.
        splits: for each split the number of its rows.
        answers: for each split and decision the rows of each label, and under "(missing)" those without an answer.
        warnings: answers that few training rows have.
    """

    row: int
    text: str
    decisions: tuple[InspectedDecision, ...]
    shared_tokens: int
    splits: dict[str, int]
    answers: dict[str, dict[str, dict[str, int]]]
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types, under the keys of ``whinchat inspect --json``."""
        content: dict[str, Any] = to_json(self)
        return content


def inspect_questions(recipe: Recipe, row: int = 0) -> InspectedQuestions:
    """Return what the data answers, and the prompts of training row ``row``. The weights are not loaded.

    Args:
        recipe: data, task with questions, and model.
        row: index of the training row, from 0.

    Raises:
        RecipeError: the task has labels, which ``inspect_example`` shows.
        DataError: the data cannot be read, or the training split has no such row.
        ModelError: the tokenizer cannot be loaded.
        PromptError: a prompt cannot be built.
    """
    task = recipe.task
    if not task.questions:
        raise RecipeError("task.questions: the task has labels; use inspect_example")
    corpus = load_corpus(recipe)
    train = corpus.train
    require_row(train, row)
    tokenizer = load_tokenizer(find_model(recipe.backbone))
    tasks = [task.of_decision(decision) for decision in task.decisions]
    first = tokenizer.template(recipe.model_copy(update={"task": tasks[0]}))
    decisions, prompts = [], []
    for decision, own, answer in zip(task.decisions, tasks, train.answers[row], strict=True):
        template = first.for_task(own, first.max_prompt_tokens)
        prompt = template.encode([train.texts[row]])[0]
        prompts.append(prompt.ids)
        decisions.append(
            InspectedDecision(
                title=decision.title,
                answer=decision.labels[answer] if isinstance(answer, int) else None,
                shares=dict(zip(decision.labels, answer, strict=True)) if isinstance(answer, tuple) else {},
                prompt=template.tokenizer.decode(prompt.ids),
                prompt_tokens=len(prompt.ids),
                answer_tokens={
                    label: len(answer_ids) + 1
                    for label, answer_ids in zip(decision.labels, template.answers, strict=True)
                },
                truncated_tokens=prompt.truncated_tokens,
                escaped_control_tokens=prompt.escaped_control_tokens,
            )
        )
    splits = [split for split in (train, corpus.validation, corpus.test) if split is not None]
    return InspectedQuestions(
        row=row,
        text=train.texts[row],
        decisions=tuple(decisions),
        shared_tokens=shared_prefix(prompts) if len(prompts) > 1 else len(prompts[0]),
        splits={split.name: len(split) for split in splits},
        answers={split.name: answer_counts(split, task) for split in splits},
        warnings=tuple(rare_answer_warnings(train, task)),
    )
