"""Choose which decision of a classifier with questions to export. Importing this module loads no torch."""

import re
from collections.abc import Iterable
from dataclasses import replace

from whinchat.errors import RunError, nearest
from whinchat.export.export_registry import export_names, holds_all_questions, holds_student
from whinchat.recipe.field_types import LONGEST_NAME
from whinchat.recipe.question import Decision
from whinchat.recipe.task import Task
from whinchat.storage.locate import SavedClassifier

# Most decisions that an error message lists.
_MOST_LISTED = 20


def choose_decision(task: Task, format: str, question: str | None) -> Decision | None:
    """Return the decision to export; None where the export holds the task as a whole.

    Args:
        task: the task of the classifier.
        format: name of the export format.
        question: the question, or ``QUESTION/OPTION`` for an option of a multi question; None for the whole task.

    Raises:
        RunError: there is no such decision, the task has labels, the format holds one decision and the task has
            several, or it holds a student, whose decisions cannot be taken apart.
    """
    if holds_student(format):
        if question is None:
            return None
        raise RunError(
            f"--question {question}: {format} holds a student, which answers all questions about a text or none; leave "
            "the option out"
        )
    decisions = {decision.address: decision for decision in task.decisions}
    if question is None:
        if not decisions or holds_all_questions(format):
            return None
        if len(decisions) == 1:
            return task.decisions[0]
        whole = " and ".join(name for name in export_names() if holds_all_questions(name))
        raise RunError(
            f"{format}: holds one decision, and this classifier makes {len(decisions)}; choose one with --question: "
            f"{_listed(decisions)}. These formats hold all of them: {whole}"
        )
    if not decisions:
        raise RunError(f"--question {question}: this classifier has labels and no questions; leave the option out")
    if question in decisions:
        return decisions[question]
    if question in task.questions:
        raise RunError(
            f"--question {question}: is a multi question, and each of its options is a decision of its own; choose one "
            f"of {_listed(own for own in decisions if decisions[own].question == question)}"
        )
    raise RunError(
        f"--question {question}: there is no such question; choose from {_listed(decisions)}"
        f"{nearest(question, decisions)}"
    )


def classifier_of_decision(saved: SavedClassifier, decision: Decision) -> SavedClassifier:
    """Return the classifier on disk with a recipe that asks for ``decision`` alone.

    The recipe names a column with labels that no table has: the splits of the run were drawn for all its questions, so
    rows that the recipe of a single decision draws for evaluation may be rows of the training.
    """
    task, recipe = saved.recipe.task, saved.recipe.of_decision(decision)
    parts = [recipe.name, decision.question]
    if decision.option is not None:
        parts.append(f"{task.questions[decision.question].names.index(decision.option) + 1:02d}")
    data = recipe.data.model_copy(update={"label_column": f"answers to {decision.address} of {recipe.name}"})
    changed = {"name": "-".join(parts)[:LONGEST_NAME], "data": data}
    return replace(saved, recipe=recipe.model_copy(update=changed))


def folder_suffix(question: str) -> str:
    """Return ``question`` as the end of a folder's name, such as ``tags-refund`` for ``tags/refund``."""
    return re.sub(r"[^\w.-]+", "-", question)


def _listed(names: Iterable[str]) -> str:
    first = list(names)
    return ", ".join(first[:_MOST_LISTED]) + (f" and {rest} more" if (rest := len(first) - _MOST_LISTED) > 0 else "")
