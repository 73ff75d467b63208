"""Records of a cascade: a student that answers the texts of which it is sure, and the classifier that it imitates.

Both files of a cascade lie beside those of the classifier.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from whinchat.evaluation.results import Interval

CASCADE_FILE = "cascade.json"
STUDENT_FILE = "cascade.safetensors"
CASCADE_FILES = (STUDENT_FILE, CASCADE_FILE)
# Rate at which a student must agree with its classifier, and the probability that it is lower all the same.
DEFAULT_AGREEMENT = 0.95
DEFAULT_DELTA = 0.05
# What to do about a file that cannot be read.
CASCADE_REMEDY = "`whinchat distill RUN` makes a new one"


@dataclass(frozen=True)
class AgreementTest:
    """Which texts a student answers, and how well it agrees there with its classifier on held-out texts.

    Attributes:
        wanted: the rate of agreement that was asked for.
        delta: probability that the rate among the answered texts is lower all the same.
        threshold: the confidence from which on the student answers; None where no threshold passed the test.
        texts: M, the held-out texts.
        answered: how many of them the student answers.
        agreeing: how many of its answers are those of the classifier.
        interval: 95 % interval of the rate of agreement among the answered texts (Clopper and Pearson); None where
            none is answered.
    """

    wanted: float
    delta: float
    threshold: float | None
    texts: int
    answered: int
    agreeing: int
    interval: Interval | None

    @property
    def coverage(self) -> float:
        """The share of held-out texts that the student answers."""
        return self.answered / self.texts if self.texts else 0.0


@dataclass(frozen=True)
class CascadeQuality:
    """Answers of a classifier, of its student and of both as a cascade, on labelled rows that no fit has seen.

    Attributes:
        split: name of the split.
        rows: number of its rows.
        answered: rows that the student answers in the cascade.
        agreeing: those of them that the classifier answers in the same way.
        metric: name of the metric of the next three.
        classifier, student, cascade: its value for the answers of each.
        change: value of the cascade minus that of the classifier.
        change_interval: 95 % paired bootstrap interval of ``change``.
    """

    split: str
    rows: int
    answered: int
    agreeing: int
    metric: str
    classifier: float
    student: float
    cascade: float
    change: float
    change_interval: Interval


@dataclass(frozen=True)
class CascadeFacts:
    """What ``cascade.json`` holds.

    Attributes:
        labels: the labels of each decision, by its address; "" for a task of one list of labels.
        test: which texts the student answers, and how well it agrees there.
        training_texts: the texts that the student learned from.
        unlabelled_texts: those of them that came without a label.
        held_out: where the texts of ``test`` come from.
        classifier_per_second, student_per_second: texts that each answered a second on the machine that made the
            cascade. The student's include the check that each text has a prompt.
        quality: the answers of the cascade on labelled rows; None for a task with questions, and where the run has no
            rows but those that chose the threshold.
        calibration: SHA-256 of the classifier's ``calibration.json``; empty where there is none.
    """

    labels: Mapping[str, tuple[str, ...]]
    test: AgreementTest
    training_texts: int
    unlabelled_texts: int
    held_out: str
    classifier_per_second: float
    student_per_second: float
    quality: CascadeQuality | None
    calibration: str

    @property
    def per_second(self) -> float:
        """Texts that the cascade answers a second, by the two speeds and the share that the student answers."""
        return 1 / (1 / self.student_per_second + (1 - self.test.coverage) / self.classifier_per_second)
