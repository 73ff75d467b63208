"""A cascade: a student answers the texts of which it is sure, and the classifier that it imitates answers the rest.

N: texts. K: labels of a decision. The files of a cascade lie beside those of the classifier: ``cascade.json`` and
``cascade.safetensors``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from whinchat.checksums import replace_checked_files
from whinchat.errors import ModelError
from whinchat.evaluation.cascade_results import CASCADE_FILE, CASCADE_REMEDY, STUDENT_FILE, CascadeFacts
from whinchat.evaluation.ngram_student import Floats, NgramStudent
from whinchat.recipe.task import Task
from whinchat.storage.json_records import to_json
from whinchat.storage.locate import SavedClassifier
from whinchat.storage.student_files import read_student, require_student


@dataclass(frozen=True)
class Cascade:
    """A student and the confidence from which on it answers.

    Attributes:
        student: the student.
        facts: how it was made and tested.
    """

    student: NgramStudent
    facts: CascadeFacts

    def answer(self, texts: Sequence[str]) -> tuple[list[Floats], NDArray[np.bool_]]:
        """Return the student's probabilities for each decision, (N, K), and whether it answers each text, (N,).

        Args:
            texts: N texts, cleaned as the classifier's recipe says.
        """
        probabilities = [np.exp(own) for own in self.student.log_probabilities(texts)]
        threshold = self.facts.test.threshold
        if threshold is None:
            return probabilities, np.zeros(len(texts), dtype=np.bool_)
        return probabilities, joint_confidence(probabilities) >= threshold

    def save(self, folder: Path, classifier: Path) -> None:
        """Write both files into ``folder``, and their checksums beside those of the classifier in ``classifier``."""
        student = self.student
        tensors = {"idf": student.idf, "weights": student.weights, "bias": student.bias}
        facts = (json.dumps(to_json(self.facts), indent=2, ensure_ascii=False) + "\n").encode()
        replace_checked_files(folder, {STUDENT_FILE: save(tensors), CASCADE_FILE: facts}, classifier)


def decision_labels(task: Task) -> dict[str, tuple[str, ...]]:
    """Return the labels of each decision by its address; under "" for a task of one list of labels."""
    return {own.address: own.labels for own in task.decisions} if task.questions else {"": task.labels}


def joint_confidence(probabilities: Sequence[Floats]) -> Floats:
    """Return how sure a student is of all its answers about each text, (N,): the lowest over its decisions."""
    confidence: Floats = np.min([own.max(axis=1) for own in probabilities], axis=0)
    return confidence


def load_cascade(saved: SavedClassifier) -> Cascade | None:
    """Load the cascade of a classifier; None where it has none.

    Raises:
        RunError: a file is lost or damaged, or the classifier was calibrated again since.
        ModelError: the student is damaged, or answers other questions or labels.
    """
    facts = require_student(saved.folder)
    return None if facts is None else _load(saved, facts)


def require_cascade(saved: SavedClassifier) -> Cascade:
    """Load the cascade of a classifier that is to have one.

    Raises:
        RunError, ModelError: it has none, or as ``load_cascade``.
    """
    return _load(saved, read_student(saved.folder))


def _load(saved: SavedClassifier, facts: CascadeFacts) -> Cascade:
    file, weights = saved.folder / CASCADE_FILE, saved.folder / STUDENT_FILE
    labels = decision_labels(saved.recipe.task)
    if dict(facts.labels) != labels:
        raise ModelError(f"{file}: made for other labels or questions than the task has; {CASCADE_REMEDY}")
    try:
        tensors = load_file(weights)
        idf, matrix, bias = tensors["idf"], tensors["weights"], tensors["bias"]
    except (OSError, SafetensorError, KeyError) as error:
        raise ModelError(f"{weights}: not readable ({' '.join(str(error).split())}); {CASCADE_REMEDY}") from None
    size = sum(map(len, labels.values()))
    if (idf.shape, matrix.shape, bias.shape) != ((len(idf),), (len(idf), size), (size,)):
        raise ModelError(f"{weights}: not the student of {CASCADE_FILE}; {CASCADE_REMEDY}")
    # The recipe may name the questions in another order now; the columns of the file keep that of its making.
    starts = dict(zip(facts.labels, accumulate(map(len, facts.labels.values()), initial=0), strict=False))
    columns = np.concatenate([np.arange(starts[name], starts[name] + len(own)) for name, own in labels.items()])
    student = NgramStudent(tuple(map(len, labels.values())), idf, matrix[:, columns], bias[columns])
    return Cascade(student, facts)
