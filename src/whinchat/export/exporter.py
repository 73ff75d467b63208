"""The contract of an export format, and the records of its proof.

N: texts. K: labels.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from whinchat.data.cleaning import clean
from whinchat.errors import ModelError
from whinchat.evaluation.calibrator import Calibrator
from whinchat.evaluation.ngram_student import MOST_BYTES
from whinchat.inference.cascade import Cascade, decision_labels
from whinchat.inference.predictor import Predictions, Predictor
from whinchat.inference.question_predictor import QuestionPredictor
from whinchat.prompts.template import PromptTemplate
from whinchat.recipe.schema import Recipe
from whinchat.recipe.task import Cleaning
from whinchat.storage.locate import SavedClassifier

Floats = NDArray[np.float64]
# Texts that the proof of a student adds to those of the data: empty ones, other writing, half a surrogate pair, and
# more bytes than a student reads.
HARD_TEXTS = ("", "\t", "a", "Ünïcode İ 你好 🙂", "\ud83d half", "🙂" * (MOST_BYTES // 4 + 9), "x " * (MOST_BYTES + 9))


@dataclass(frozen=True)
class FileProof:
    """How the predictions of one exported file compare with the classifier's own.

    Attributes:
        file: name of the file in the export folder.
        reader: the program that read the file, with its version.
        flipped: number of texts for which the labels differ.
        largest_difference: the largest difference between two probabilities.
        flipped_uncalibrated: number of texts for which the label differs if only the model decides, as in free
            generation; None if the file contains the calibration.
        question: the decision that was compared, such as "team" or "tags/refund"; empty for a task with labels.
        ends_stripped: whether the file leaves out white space at the ends of a text, which the classifier reads.
        flipped_margin: by how much the classifier itself prefers its label to the file's, as a difference of
            probabilities, for the flipped text where this is most; 0 where no label differs.
    """

    file: str
    reader: str
    flipped: int
    largest_difference: float
    flipped_uncalibrated: int | None = None
    question: str = ""
    ends_stripped: bool = False
    flipped_margin: float = 0.0


@dataclass(frozen=True)
class ExportProof:
    """How the predictions of an export compare with the classifier's own.

    Attributes:
        kind: name of the export format.
        texts: number of texts compared, N.
        flipped: number of texts for which the labels differ, in the file and question with the most differences.
        largest_difference: the largest difference between two probabilities, in any file.
        tolerance: share of differing labels up to which an export is kept.
        files: the comparison for each file and each exported decision.
        not_carried: steps of ``task.clean`` that the files do not do; users of the files must do them.
        digest: digest of the classifier, the format, the question, the tolerance and the texts, by which the same
            export is known; empty in a proof of version 0.1.0.
    """

    kind: str
    texts: int
    flipped: int
    largest_difference: float
    tolerance: float
    files: tuple[FileProof, ...]
    not_carried: tuple[str, ...] = ()
    digest: str = ""


@dataclass(frozen=True)
class ClassifierOutline:
    """What is known of a classifier before its weights are read.

    Attributes:
        recipe: its recipe; of a classifier with questions, that of one decision.
        config: the configuration of its model, as transformers has it.
        template: its prompts, with the tokenizer.
    """

    recipe: Recipe
    config: Any
    template: PromptTemplate


@dataclass(frozen=True)
class ExportJob:
    """One classifier to export, with the texts and predictions that prove the export.

    A decision of a classifier with questions is an ordinary classifier here, with labels and a prompt of its own.

    Attributes:
        saved: the classifier on disk.
        predictor: the same classifier in memory.
        predictions: predictions of ``predictor`` for ``texts``.
        texts: N texts of the proof.
        more_texts: further texts, which an exporter may fit something on.
        folder: the folder to write to.
        question: the decision, such as "team" or "tags/refund"; empty for a task with labels.
    """

    saved: SavedClassifier
    predictor: Predictor
    predictions: Predictions
    texts: Sequence[str]
    more_texts: Sequence[str]
    folder: Path
    question: str = ""

    def compare(
        self,
        file: str,
        reader: str,
        labels: Sequence[str],
        probabilities: Floats,
        *,
        flipped_uncalibrated: int | None = None,
        ends_stripped: bool = False,
    ) -> FileProof:
        """Compare what was read from ``file`` with the predictions of the classifier.

        Args:
            file: name of the file.
            reader: the program that read the file, with its version.
            labels: the label of each text, (N,).
            probabilities: the probability of each label, (N, K).
            flipped_uncalibrated, ends_stripped: as in ``FileProof``.

        Raises:
            ModelError: a probability is not a finite number.
        """
        proof = _compare(self.predictions, self.question, file, reader, labels, probabilities)
        return replace(proof, flipped_uncalibrated=flipped_uncalibrated, ends_stripped=ends_stripped)


def _compare(
    own: Predictions, question: str, file: str, reader: str, labels: Sequence[str], probabilities: Floats
) -> FileProof:
    """Compare labels (N,) and probabilities (N, K) that were read from ``file`` with the predictions ``own``."""
    if not np.isfinite(probabilities).all():
        raise ModelError(
            f"{file}: {reader} reads probabilities that are not finite numbers from the file; export another format"
        )
    margins = [
        float(row.max() - row[own.labels.index(label)])
        for label, own_label, row in zip(labels, own.label_names, own.probabilities, strict=True)
        if label != own_label
    ]
    return FileProof(
        file=file,
        reader=reader,
        flipped=len(margins),
        largest_difference=float(np.abs(probabilities - own.probabilities).max()),
        question=question,
        flipped_margin=max(margins, default=0.0),
    )


@dataclass(frozen=True)
class QuestionsExportJob:
    """A classifier to export with all its questions.

    Attributes:
        saved: the classifier on disk.
        predictor: the same classifier in memory.
        decisions: an ordinary job for each decision, in the order of ``Task.decisions``, all with the same texts,
            folder and model.
    """

    saved: SavedClassifier
    predictor: QuestionPredictor
    decisions: tuple[ExportJob, ...]

    @property
    def texts(self) -> Sequence[str]:
        """N texts of the proof."""
        return self.decisions[0].texts

    @property
    def folder(self) -> Path:
        """The folder to write to."""
        return self.decisions[0].folder


@dataclass(frozen=True)
class StudentExportJob:
    """The student of a classifier, to export without the model.

    Attributes:
        saved: the classifier on disk.
        cascade: its student, and how that was made and tested.
        calibrators: the calibrator of each decision, whose threshold says which answers are unsure.
        texts: N texts of the proof, ``HARD_TEXTS`` among them.
        folder: the folder to write to.
    """

    saved: SavedClassifier
    cascade: Cascade
    calibrators: tuple[Calibrator, ...]
    texts: Sequence[str]
    folder: Path

    @property
    def addresses(self) -> tuple[str, ...]:
        """The address of each decision, such as "team" or "tags/refund"; a single "" for a task with labels."""
        return tuple(decision_labels(self.saved.recipe.task))

    @cached_property
    def predictions(self) -> tuple[Predictions, ...]:
        """The predictions of the student for ``texts``, one for each decision."""
        steps = self.saved.recipe.task.clean
        answers, _ = self.cascade.answer([clean(text, steps) for text in self.texts])
        return tuple(
            Predictions(calibrator.labels, probabilities, calibrator.unsure(probabilities))
            for probabilities, calibrator in zip(answers, self.calibrators, strict=True)
        )

    def compare(self, file: str, reader: str, probabilities: Sequence[Floats]) -> tuple[FileProof, ...]:
        """Compare what was read from ``file`` with the predictions of the student.

        Args:
            file: name of the file.
            reader: the program that read the file, with its version.
            probabilities: the probability of each label for each decision, (N, K).

        Returns:
            A comparison for each decision.

        Raises:
            ModelError: a probability is not a finite number.
        """
        return tuple(
            _compare(own, address, file, reader, [own.labels[best] for best in read.argmax(axis=1)], read)
            for own, address, read in zip(self.predictions, self.addresses, probabilities, strict=True)
        )


class ExportFormat(ABC):
    """What exporters of a classifier and of a student have in common. See ``docs/how-to/add-an-export.md``.

    Attributes:
        name: name of the format, as in ``whinchat export --to NAME``.
        carried_steps: steps of ``task.clean`` that the files do themselves.
        holds_all_questions: whether the files can hold all questions of a task.
        holds_student: whether the files hold the student of a classifier, and not its model.
    """

    name: ClassVar[str]
    carried_steps: ClassVar[tuple[Cleaning, ...]] = ()
    holds_all_questions: ClassVar[bool] = False
    holds_student: ClassVar[bool] = False


class Exporter(ExportFormat):
    """Writes a classifier in one format, and proves that the files answer like the classifier.

    ``export_run`` calls ``check``, ``write`` and ``prove``, in this order. Of a classifier with questions, the files
    hold the one decision that the user names with ``--question``, unless the exporter is a ``QuestionExporter``.
    """

    def check(self, outline: ClassifierOutline) -> None:
        """Check, before the weights are read, that this format can hold the classifier; by default it can.

        Raises:
            ModelError: it cannot, or a package is missing; the message says what to do instead.
        """

    @abstractmethod
    def write(self, job: ExportJob) -> None:
        """Write the files to ``job.folder``, which exists and is empty."""

    @abstractmethod
    def prove(self, job: ExportJob) -> tuple[FileProof, ...]:
        """Read the files as their users will, predict ``job.texts``, and return one ``job.compare`` for each file."""


class QuestionExporter(Exporter):
    """An exporter whose files can hold all questions of a task, or a single decision as of any ``Exporter``.

    Without ``--question``, ``export_run`` calls ``check`` for each decision, ``write_questions`` and
    ``prove_questions``.
    """

    holds_all_questions = True

    @abstractmethod
    def write_questions(self, job: QuestionsExportJob) -> None:
        """Write the files with all questions to ``job.folder``, which exists and is empty."""

    @abstractmethod
    def prove_questions(self, job: QuestionsExportJob) -> tuple[FileProof, ...]:
        """Read the files as their users will, and return a comparison for each file and each of ``job.decisions``."""


class StudentExporter(ExportFormat):
    """Writes the student of a classifier in one format, and proves that the files answer like the student.

    ``export_run`` calls ``write_student`` and ``prove_student``, in this order, and loads no model. A student answers
    all questions about a text or none, so the files hold all decisions of the task.
    """

    holds_student = True

    @abstractmethod
    def write_student(self, job: StudentExportJob) -> None:
        """Write the files to ``job.folder``, which exists and is empty."""

    @abstractmethod
    def prove_student(self, job: StudentExportJob) -> tuple[FileProof, ...]:
        """Read the files as their users will, answer ``job.texts``, and return ``job.compare`` of each file."""
