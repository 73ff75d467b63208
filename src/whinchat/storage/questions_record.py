"""The record of a run with several questions: everything that its figures, report and card may show.

Figures, report and card are pure functions of this record. Each decision has further evidence in a folder of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from whinchat.evaluation.cascade_results import CascadeFacts
from whinchat.evaluation.question_results import QuestionsEvidence
from whinchat.recipe.question import Question
from whinchat.recipe.schema import Recipe
from whinchat.storage.run_record import Manifest
from whinchat.storage.training_result import TrainPoint

QUESTIONS_FOLDER = "questions"


@dataclass(frozen=True)
class QuestionsRecord:
    """Everything that the top of the run folder of a run with several questions holds.

    Attributes:
        recipe: the recipe of the run.
        manifest: where the numbers come from; ``QuestionResult.data`` counts the answers in each split.
        history: the training log.
        questions: how each question is answered, in the order of the recipe.
        cascade: the student of the run; None for a run without a student.
    """

    recipe: Recipe
    manifest: Manifest
    history: tuple[TrainPoint, ...]
    questions: QuestionsEvidence
    cascade: CascadeFacts | None = None

    @property
    def split(self) -> str:
        """The evaluated split."""
        return self.questions[0].split

    @property
    def evaluated_rows(self) -> int:
        """Evaluated rows, with or without an answer to a question."""
        first = self.questions[0]
        return first.rows + first.missing


def decision_folders(name: str, question: Question) -> tuple[str, ...]:
    """Return the folder of each decision of a question, relative to the run folder.

    It is ``questions/NAME``, and ``questions/NAME/01``, ``02`` and so on for each option of ``multi``.
    """
    folder = f"{QUESTIONS_FOLDER}/{name}"
    if question.type != "multi":
        return (folder,)
    return tuple(f"{folder}/{number:02d}" for number in range(1, len(question.names) + 1))


def all_decision_folders(questions: Mapping[str, Question]) -> tuple[str, ...]:
    """Return the folder of each decision of a task, as ``decision_folders`` does, in the order of its decisions."""
    return tuple(folder for name, question in questions.items() for folder in decision_folders(name, question))
