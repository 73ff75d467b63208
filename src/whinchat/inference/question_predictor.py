"""A trained classifier that answers several questions about a text.

N: texts. D: decisions; a question is one, or for ``multi`` one for each option. K: labels of a decision.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from whinchat.errors import RunError
from whinchat.evaluation.calibrator import Calibrator, load_calibrators
from whinchat.evaluation.joint_scoring import decision_engines, score_questions
from whinchat.hub.client import fetch_classifier
from whinchat.inference.cascade import Cascade, load_cascade
from whinchat.inference.prediction_columns import PROBABILITY_DIGITS
from whinchat.inference.predictor import Predictions, Predictor, load_engine, predict_with_student, warn_uncalibrated
from whinchat.models.forward import Engine
from whinchat.models.packed.packed_forward import PrefixCache
from whinchat.progress import Progress
from whinchat.recipe.schema import Recipe
from whinchat.recipe.task import Task
from whinchat.storage.locate import SavedClassifier, find_classifier


@dataclass(frozen=True)
class QuestionPredictions:
    """The answers to the questions of a task about N texts, in the order of the texts.

    Attributes:
        task: the task with the questions.
        decisions: the predictions of each decision, in the order of ``Task.decisions``.
    """

    task: Task
    decisions: tuple[Predictions, ...]

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """Join one or more parts, all of the same task, in their order."""
        columns = zip(*(part.decisions for part in parts), strict=True)
        return cls(parts[0].task, tuple(Predictions.concatenate(column) for column in columns))

    def __len__(self) -> int:
        return len(self.decisions[0])

    def __getitem__(self, rows: slice) -> QuestionPredictions:
        return QuestionPredictions(self.task, tuple(own[rows] for own in self.decisions))

    def take(self, rows: Sequence[int]) -> QuestionPredictions:
        """Return the answers about some texts, in the order of ``rows``; a text may occur more than once."""
        return QuestionPredictions(self.task, tuple(own.take(rows) for own in self.decisions))

    @property
    def by_student(self) -> NDArray[np.bool_] | None:
        """Whether the student of a cascade answered all questions about each text, (N,); None without a student."""
        return self.decisions[0].by_student

    def of_question(self, name: str) -> tuple[Predictions, ...]:
        """Return the predictions of the decisions of a question: one, or one for each option of ``multi``."""
        decisions = zip(self.task.decisions, self.decisions, strict=True)
        return tuple(own for decision, own in decisions if decision.question == name)

    def answers(self, name: str) -> list[str] | list[list[str]]:
        """Return the answer to a question for each text: an option or level, or the list of options that apply."""
        own = self.of_question(name)
        question = self.task.questions[name]
        if question.type != "multi":
            return own[0].label_names
        applies = zip(*(one.label_indices for one in own), strict=True)
        return [[option for option, index in zip(question.names, row, strict=True) if index] for row in applies]

    def unsure(self, name: str) -> list[bool]:
        """Return for each text whether an answer to the question is below the threshold of its decision."""
        flags: list[bool] = np.any([one.unsure for one in self.of_question(name)], axis=0).tolist()
        return flags

    def probabilities(self, name: str) -> dict[str, list[float]]:
        """Return the probability of each option for each text; of ``multi`` the probability that it applies."""
        own, question = self.of_question(name), self.task.questions[name]
        is_multi = question.type == "multi"
        columns = [one.probabilities[:, 1] for one in own] if is_multi else list(own[0].probabilities.T)
        return {option: column.tolist() for option, column in zip(question.names, columns, strict=True)}

    def expected_levels(self, name: str) -> list[float]:
        """Return the expected level of a score question for each text, from 0 for the lowest level."""
        probabilities = self.of_question(name)[0].probabilities
        levels: list[float] = (probabilities @ np.arange(probabilities.shape[1])).tolist()
        return levels

    def to_dict(self, row: int) -> dict[str, Any]:
        """Return the answers about one text as plain JSON types: an object for each question."""
        by_student = self.by_student
        answers = {name: self._question_dict(name, row) for name in self.task.questions}
        return {"answers": answers, **({} if by_student is None else {"by_student": bool(by_student[row])})}

    def _question_dict(self, name: str, row: int) -> dict[str, Any]:
        one = self[row : row + 1]
        answer: dict[str, Any] = {
            "type": self.task.questions[name].type,
            "answer": one.answers(name)[0],
            "unsure": one.unsure(name)[0],
        }
        if self.task.questions[name].type == "score":
            answer["expected"] = one.expected_levels(name)[0]
        probabilities = {option: column[0] for option, column in one.probabilities(name).items()}
        return answer | {"probabilities": probabilities}

    def cells(self) -> Iterator[Sequence[object]]:
        """Yield the cells of each column that ``question_column_types`` names."""
        for name, question in self.task.questions.items():
            answers = self.answers(name)
            yield [json.dumps(one, ensure_ascii=False) if isinstance(one, list) else one for one in answers]
            yield self.unsure(name)
            if question.type == "score":
                yield np.round(self.expected_levels(name), PROBABILITY_DIGITS).tolist()
            for column in self.probabilities(name).values():
                yield np.round(column, PROBABILITY_DIGITS).tolist()

    def count(self) -> tuple[dict[str, int], int]:
        """Return how many texts have each answer, such as ``team: returns``, and how many have an unsure answer."""
        counts = Counter[str]()
        for name in self.task.questions:
            for answer in self.answers(name):
                counts.update(f"{name}: {one}" for one in (answer if isinstance(answer, list) else [answer]))
        unsure = np.any([one.unsure for one in self.decisions], axis=0)
        return dict(counts), int(unsure.sum())


@dataclass(frozen=True)
class QuestionPredictor:
    """A trained classifier whose task asks questions.

    Attributes:
        recipe: the recipe that the classifier was trained with.
        engines: for each of D decisions the model together with its prompt template.
        calibrators: for each decision, turns its scores into probabilities.
        cascade: the student that answers all questions about the texts of which it is sure; None where the model
            answers all.
    """

    recipe: Recipe
    engines: tuple[Engine, ...]
    calibrators: tuple[Calibrator, ...]
    cascade: Cascade | None = None

    @classmethod
    def load(cls, path: str | Path, *, student: bool = True) -> Self:
        """Load the classifier of a run folder, of an adapter folder, or of OWNER/NAME on the hub.

        ``student`` is that of ``Predictor.load``.

        Raises:
            HubError, RunError, ModelError: as ``Predictor.load`` raises them.
            RunError: the classifier has labels and no questions.
        """
        path = fetch_classifier(path)
        saved = find_classifier(path, with_questions=True)
        if not saved.recipe.task.questions:
            raise RunError(f"{path}: has labels and no questions; load it with Predictor or Classifier")
        recipe, engine = load_engine(path, with_questions=True)
        return cls.build(recipe, engine, saved, student=student)

    @classmethod
    def build(cls, recipe: Recipe, engine: Engine, saved: SavedClassifier, *, student: bool = True) -> Self:
        """Build the predictor of ``recipe`` on the model of ``engine``, with the calibrations of ``saved``.

        Raises:
            ModelError: the calibration is damaged, or belongs to other questions.
        """
        calibrators = load_calibrators(saved.folder, recipe.task.decisions)
        if not all(calibrator.rows for calibrator in calibrators):
            warn_uncalibrated(saved)
        cascade = load_cascade(saved) if student else None
        return cls(recipe, tuple(decision_engines(engine, recipe.task)), tuple(calibrators), cascade)

    def fault(self, text: str) -> str:
        """Return why there is no prompt for ``text``; an empty string where there is one."""
        return self.engines[0].template.fault(text)

    def read_prefixes(self) -> tuple[PrefixCache | None, ...]:
        """Compute the prefix of the prompts of each decision; decisions with the same one share its cache."""
        return tuple(read_prefixes(self.engines))

    def predict(
        self,
        texts: Sequence[str],
        *,
        deterministic: bool = False,
        bar: Progress | None = None,
        prefixes: Sequence[PrefixCache | None] = (),
    ) -> QuestionPredictions:
        """Answer the questions about each text.

        ``deterministic``, ``bar`` and ``prefixes`` are those of ``score_questions``, but the bar is advanced by one for
        each text.
        """

        def ask_model(asked: Sequence[str]) -> tuple[Predictions, ...]:
            scores = score_questions(
                self.engines,
                [engine.template.encode(asked) for engine in self.engines],
                self.recipe.evaluate.per_device_eval_batch_size,
                "Labelling",
                deterministic=deterministic,
                bar=None if bar is None else PerDecision(bar, len(self.engines)),
                prefixes=prefixes,
                labels_only=True,
            )
            pairs = zip(scores, self.calibrators, strict=True)
            return tuple(Predictions.from_scores(own, calibrator) for own, calibrator in pairs)

        decisions = predict_with_student(self.recipe, self.cascade, self.calibrators, texts, ask_model, bar)
        return QuestionPredictions(self.recipe.task, decisions)


def read_prefixes(engines: Sequence[Engine]) -> list[PrefixCache | None]:
    """Compute the prefix that nearly all prompts of each engine share; engines with the same prefix share its cache."""
    known: dict[tuple[int, ...], PrefixCache | None] = {}
    caches = []
    for engine in engines:
        ids = engine.prefix_ids()
        if ids not in known:
            known[ids] = engine.read_prefix()
        caches.append(known[ids])
    return caches


class PerDecision(Progress):
    """Advances a bar of texts by the answers to their decisions.

    Args:
        bar: the bar of texts.
        decisions: number of decisions of a text.
    """

    def __init__(self, bar: Progress, decisions: int) -> None:
        self._bar, self._decisions, self._answers, self._texts = bar, decisions, 0, 0

    def update(self, count: int) -> None:
        """Advance the bar by the texts that are complete after ``count`` more answers."""
        self._answers += count
        texts, self._texts = self._answers // self._decisions - self._texts, self._answers // self._decisions
        self._bar.update(texts)


AnyPredictor = Predictor | QuestionPredictor


def load_predictor(path: str | Path, *, student: bool = True) -> AnyPredictor:
    """Load a classifier, whether its task has labels or questions.

    Args:
        path: the folder of the classifier, or OWNER/NAME on the hub.
        student: whether a student that ``distill_run`` made answers the texts of which it is sure.

    Raises:
        HubError, RunError, ModelError: as ``Predictor.load`` raises them.
    """
    path = fetch_classifier(path)
    questions = find_classifier(path, with_questions=True).recipe.task.questions
    return QuestionPredictor.load(path, student=student) if questions else Predictor.load(path, student=student)
