"""Checks between the questions of a task and the other sections of a recipe."""

from collections.abc import Mapping
from typing import Any

from whinchat.errors import nearest
from whinchat.recipe.data_config import DataConfig
from whinchat.recipe.task import Task

# Section -> the keys that have another default in a recipe with questions.
QUESTION_DEFAULTS: dict[str, dict[str, Any]] = {"train": {"loss": "choice"}, "evaluate": {"generate": False}}


def check_questions(
    task: Task,
    data: DataConfig,
    loss: str,
    class_weights: str | Mapping[str, float],
    *,
    generate: bool,
    has_reference: bool,
) -> None:
    """Check what the questions of ``task`` ask of the other sections.

    Args:
        task, data: sections of the recipe.
        loss, class_weights: ``train.loss`` and ``train.class_weights``.
        generate: ``evaluate.generate``.
        has_reference: whether the recipe has a ``reference``.

    Raises:
        ValueError: a key does not fit the questions, or needs questions where there are none.
    """
    if not task.questions:
        if data.answers or data.answer_map:
            raise ValueError("data.answers: and data.answer_map belong to task.questions, which the recipe lacks")
        return
    if data.label_map or data.label_column != "label":
        raise ValueError(
            "data.label_map: and data.label_column belong to task.labels; a recipe with questions has data.answers "
            "and data.answer_map"
        )
    if data.soft_labels is not None:
        raise ValueError(
            "data.soft_labels: belongs to task.labels; with questions, data.answers maps options to columns that hold "
            "the share of each"
        )
    if loss != "choice":
        raise ValueError(f"train.loss: questions are trained by choice, found {loss}; remove the key")
    if isinstance(class_weights, Mapping):
        raise ValueError("train.class_weights: give each question class_weights of its own, under task.questions")
    if generate:
        raise ValueError("evaluate.generate: questions are answered by scores only; set it to false, or remove it")
    if has_reference:
        raise ValueError("reference: published figures stand beside those of a task with labels; remove the key")
    for key, mapping in (("data.answers", data.answers), ("data.answer_map", data.answer_map)):
        for name in mapping:
            if name not in task.questions:
                raise ValueError(f"{key}: {name} is no question{nearest(name, task.questions)}")
    for name in task.questions:
        _check_columns(name, task, data)


def _check_columns(name: str, task: Task, data: DataConfig) -> None:
    """Check what ``data`` says of the question called ``name``; raises ValueError as ``check_questions`` does."""
    question, columns, mapped = task.questions[name], data.answer_columns(name), data.answer_map.get(name, {})
    if unknown := sorted(set(mapped.values()) - set(question.names)):
        raise ValueError(f"data.answer_map.{name}: {', '.join(unknown)} not among {', '.join(question.names)}")
    if isinstance(columns, str):
        return
    if unknown := [option for option in columns if option not in question.names]:
        raise ValueError(f"data.answers.{name}: {', '.join(unknown)} not among {', '.join(question.names)}")
    missing = [option for option in question.names if option not in columns]
    if missing and not (question.type == "yes_no" and "yes" in columns):
        raise ValueError(f"data.answers.{name}: has no column for {', '.join(missing)}")
    if mapped:
        raise ValueError(f"data.answer_map.{name}: shares in columns of their own need no map; remove it")
