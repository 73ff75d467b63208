"""Export format "student": the student of a classifier alone, as a small ONNX graph that onnxruntime runs.

N: texts. K: labels of a decision.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from whinchat.checksums import write_checksums
from whinchat.data.cleaning import clean
from whinchat.errors import ModelError
from whinchat.evaluation.cascade_results import AgreementTest
from whinchat.evaluation.ngram_student import MOST_BYTES
from whinchat.export.exporter import FileProof, StudentExporter, StudentExportJob
from whinchat.export.student_graph import BYTES_INPUT, LENGTHS_INPUT, write_student_graph
from whinchat.inference.cascade import joint_confidence
from whinchat.progress import logger
from whinchat.recipe.task import Cleaning
from whinchat.report.student_readme import student_readme
from whinchat.storage.json_records import read_json_record, write_json_record

STUDENT_GRAPH_FILE, STUDENT_FACTS_FILE = "student.onnx", "student.json"
# Both add in float64, in another order.
LARGEST_DIFFERENCE = 1e-9
# Numbers of a batch for each byte: the largest batch of the longest texts takes some 20 MB.
_BATCH_LABELS = 64


@dataclass(frozen=True)
class StudentDecision:
    """A decision of an exported student.

    Attributes:
        question: name of the question; empty for a task with labels.
        option: the option of a multi question that applies or not; None for the other types.
        output: name of the graph's output with the probabilities.
        labels: names of its columns, (K,).
        unsure_below: highest probability below which an answer is unsure; None where none is.
    """

    question: str
    option: str | None
    output: str
    labels: tuple[str, ...]
    unsure_below: float | None


@dataclass(frozen=True)
class StudentFacts:
    """The content of ``student.json``.

    Attributes:
        decisions: the decisions in the order of the graph's outputs.
        clean: steps of ``task.clean`` to do to every text first, in this order.
        most_bytes: how many bytes of a text the student reads.
        test: the confidence from which on the student answers, and how that was tested.
    """

    decisions: tuple[StudentDecision, ...]
    clean: tuple[Cleaning, ...]
    most_bytes: int
    test: AgreementTest


class OnnxStudentExporter(StudentExporter):
    """Writes the graph, the names of its labels, and a README with the code that runs it."""

    name = "student"

    def write_student(self, job: StudentExportJob) -> None:
        """Write the graph and the files that go with it."""
        facts = job.cascade.facts
        exported = _describe(job)
        if facts.test.threshold is None:
            logger.warning(
                "The student answers no text in place of the classifier, for no confidence passed the test; its README "
                "says so"
            )
        outputs = [decision.output for decision in exported.decisions]
        write_student_graph(job.cascade.student, outputs, job.folder / STUDENT_GRAPH_FILE)
        write_json_record(job.folder / STUDENT_FACTS_FILE, exported)
        readme = student_readme(job.saved.recipe.name, exported.clean, MOST_BYTES, facts)
        (job.folder / "README.md").write_text(readme, encoding="utf-8")
        write_checksums(job.folder)

    def prove_student(self, job: StudentExportJob) -> tuple[FileProof, ...]:
        """Answer with onnxruntime what ``student.json`` says.

        Raises:
            ModelError: probabilities or confidences are not those of the student up to rounding.
        """
        probabilities, confidence = student_answers(job.folder, job.texts)
        proofs = job.compare(STUDENT_GRAPH_FILE, f"onnxruntime {version('onnxruntime')}", probabilities)
        own = joint_confidence([predictions.probabilities for predictions in job.predictions])
        worst = max(float(np.abs(confidence - own).max()), *(proof.largest_difference for proof in proofs))
        if not worst <= LARGEST_DIFFERENCE:
            raise ModelError(
                f"{job.folder / STUDENT_GRAPH_FILE}: not exported: onnxruntime answers otherwise than the student, by "
                f"up to {worst:.2g} in probability; try another version of onnxruntime"
            )
        return proofs


EXPORTER = OnnxStudentExporter()


def _describe(job: StudentExportJob) -> StudentFacts:
    """Return the content of ``student.json``."""
    task = job.saved.recipe.task
    names = [(own.question, own.option) for own in task.decisions] if task.questions else [("", None)]
    decisions = (
        StudentDecision(
            question,
            option,
            f"probabilities/{address}" if address else "probabilities",
            calibrator.labels,
            calibrator.threshold,
        )
        for (question, option), address, calibrator in zip(names, job.addresses, job.calibrators, strict=True)
    )
    return StudentFacts(tuple(decisions), task.clean, MOST_BYTES, job.cascade.facts.test)


def student_answers(folder: Path, texts: Sequence[str]) -> tuple[list[NDArray[np.float64]], NDArray[np.float64]]:
    """Return what onnxruntime answers about N texts: the probabilities of each decision, (N, K), and confidences (N,).

    Args:
        folder: an exported student.
        texts: N texts, as users give them.

    Raises:
        RunError: ``student.json`` is damaged.
    """
    facts = read_json_record(folder / STUDENT_FACTS_FILE, StudentFacts, "export the student again")
    outputs = [decision.output for decision in facts.decisions]
    session = onnxruntime.InferenceSession(folder / STUDENT_GRAPH_FILE, providers=["CPUExecutionProvider"])
    size = max(1, _BATCH_LABELS // sum(len(decision.labels) for decision in facts.decisions))
    batches = [
        session.run(
            [*outputs, "confidence"], _graph_inputs([clean(text, facts.clean) for text in texts[start : start + size]])
        )
        for start in range(0, len(texts), size)
    ]
    *probabilities, confidence = map(np.concatenate, zip(*batches, strict=True))
    return probabilities, confidence


def _graph_inputs(texts: Sequence[str]) -> dict[str, NDArray[np.generic]]:
    """Return the inputs of the graph for cleaned texts, with all their bytes."""
    rows = [f" {' '.join(text.lower().split())} ".encode(errors="replace") for text in texts]
    data = np.full((len(rows), max(map(len, rows))), 255, dtype=np.uint8)
    for place, row in zip(data, rows, strict=True):
        place[: len(row)] = np.frombuffer(row, dtype=np.uint8)
    return {BYTES_INPUT: data, LENGTHS_INPUT: np.array([len(row) for row in rows], dtype=np.int64)}
