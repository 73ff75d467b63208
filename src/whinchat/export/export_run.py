"""Export a classifier, and keep the files only if they are proved to answer like the classifier."""

import hashlib
import json
import shutil
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from whinchat.data.formats.table_registry import open_table
from whinchat.data.sources import load_labelled
from whinchat.data.text_columns import TextColumns
from whinchat.errors import DataError, ModelError, RunError, WhinchatError
from whinchat.evaluation.calibrator import load_calibrators
from whinchat.export.export_registry import DEFAULT_TOLERANCE, PROOF_FILE, find_exporter
from whinchat.export.exported_decision import choose_decision, classifier_of_decision
from whinchat.export.exporter import (
    HARD_TEXTS,
    ClassifierOutline,
    Exporter,
    ExportFormat,
    ExportJob,
    ExportProof,
    FileProof,
    QuestionExporter,
    QuestionsExportJob,
    StudentExporter,
    StudentExportJob,
)
from whinchat.hub.client import fetch_classifier
from whinchat.inference.cascade import require_cascade
from whinchat.inference.prediction_columns import readable_texts
from whinchat.inference.prediction_jobs import classifier_fingerprint
from whinchat.inference.predictor import Predictions, Predictor, load_calibrator, saved_prompts
from whinchat.inference.question_predictor import QuestionPredictor
from whinchat.models.backbone import find_model, load_tokenizer
from whinchat.output_files import draft_path, publish, require_writable, sweep_drafts, writing
from whinchat.recipe.question import Decision
from whinchat.storage.json_records import read_json_record, write_json_record
from whinchat.storage.locate import SavedClassifier, find_classifier
from whinchat.storage.locking import lock_output

_AnyJob = ExportJob | QuestionsExportJob | StudentExportJob
# Most texts that an export is proved on, and most further texts that an exporter may fit something on.
PROOF_ROWS, MORE_ROWS = 500, 500
# Most answers that prove an export of many questions, which are proved on fewer texts, and the fewest of these.
PROOF_ANSWERS, FEWEST_PROOF_ROWS = 1000, 100
# Probabilities that are as close may change their order when they are computed in another data type.
_NEAR_TIE = 0.02


def export_run(
    run: str | Path,
    format: str,
    out: str | Path,
    *,
    question: str | None = None,
    data: str | Path | None = None,
    tolerance: float = DEFAULT_TOLERANCE,
) -> ExportProof:
    """Write the classifier of ``run`` in another format to the new folder ``out``, with its proof in ``proof.json``.

    Args:
        run: a run folder, an adapter folder, or OWNER/NAME on the hub.
        format: "merged", one model without an adapter; "classifier", for ``AutoModelForSequenceClassification``;
            "gguf", for llama.cpp and Ollama; "onnx", the classifier as a graph for onnxruntime; "student", the student
            alone as a small graph for onnxruntime; or a format that ``register_export`` added.
        out: the folder to create. It appears only after the proof has succeeded. If it holds this very export already,
            its proof is returned.
        question: of a classifier with questions, the one to export as an ordinary classifier with labels, such as
            "team", or "tags/refund" for an option of a multi question. By default all questions are exported, which
            "merged" and "gguf" can hold; "student" always holds all, and the other formats hold one decision.
        data: a table with texts for the proof; the validation split of the run by default.
        tolerance: share of labels that may differ from the classifier's own.

    Raises:
        RunError: ``run`` holds no classifier, or none with a student where that is to be exported; ``out`` exists
            already and is not this very export, another process exports to ``out``, there is no such format or
            question, the format cannot hold all questions, or ``tolerance`` is no share.
        DataError: there are no texts for the proof.
        ModelError: the format cannot hold this classifier, too many labels differ, or the student is damaged.
        OutputError: ``out`` cannot be written, as on a full disk.
    """
    exporter, out = find_exporter(format), Path(out)
    if not 0 <= tolerance <= 1:
        raise RunError(f"tolerance: must lie from 0 to 1; found {tolerance}")
    require_writable(out)
    path = fetch_classifier(run)
    saved = find_classifier(path, with_questions=True)
    decision = choose_decision(saved.recipe.task, format, question)
    texts = _checked_texts(exporter, saved, decision, data)
    if not texts:
        raise DataError(f"{path}: the chat template refuses every text for the proof; give other texts with --data")
    digest = _digest(saved, exporter, decision, tolerance, texts)
    with lock_output(out):
        if out.exists():
            return _finished_export(out, digest)
        sweep_drafts(out.parent)
        shutil.rmtree(out.with_name(f".{out.name}.unproved"), ignore_errors=True)  # left by version 0.1.0
        draft = draft_path(out)
        try:
            with writing(out):
                draft.mkdir()
            if isinstance(exporter, StudentExporter):
                job: _AnyJob = _make_student_job(saved, texts, draft)
            else:
                job = _make_job(saved, path, decision, texts, draft)
            proof = _write_and_prove(exporter, job, out, tolerance, digest)
            with writing(out):
                publish(draft, out)
        except WhinchatError as error:
            # The user knows the folder by the name that it was to get.
            raise type(error)(str(error).replace(str(draft), str(out))) from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return proof


def _checked_texts(
    exporter: ExportFormat, saved: SavedClassifier, decision: Decision | None, data: str | Path | None
) -> Sequence[str]:
    """Check that the format can hold the classifier, and return the texts of the proof that can be answered."""
    if not isinstance(exporter, Exporter):
        require_cascade(saved)
        return _proof_texts(saved, data)
    outlines = _read_outlines(saved, decision)
    for outline in outlines:
        exporter.check(outline)
    return [text for text in _proof_texts(saved, data) if not outlines[0].template.fault(text)]


def _read_outlines(saved: SavedClassifier, decision: Decision | None) -> list[ClassifierOutline]:
    """Read recipe, tokenizer and configuration of a classifier; its model is built without weights.

    Returns:
        The outline of ``decision``; without, of each decision of a task with questions, or of the task with labels.
    """
    source = find_model(saved.recipe.backbone)
    recipe, template = saved_prompts(saved, load_tokenizer(source, saved.folder))
    config = AutoConfig.from_pretrained(source.path, revision=source.revision or "main", trust_remote_code=False)
    with torch.device("meta"):
        # A model of several parts has another configuration than its folder.
        config = AutoModelForCausalLM.from_config(config, trust_remote_code=False).config
    if not recipe.task.questions:
        return [ClassifierOutline(recipe, config, template)]
    recipes = [recipe.of_decision(own) for own in (recipe.task.decisions if decision is None else [decision])]
    return [ClassifierOutline(own, config, template.for_task(own.task, template.max_prompt_tokens)) for own in recipes]


def _digest(
    saved: SavedClassifier, exporter: ExportFormat, decision: Decision | None, tolerance: float, texts: Sequence[str]
) -> str:
    exported = exporter.name if decision is None else [exporter.name, decision.address]
    content = [classifier_fingerprint(saved.folder), exported, tolerance, *texts]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _finished_export(out: Path, digest: str) -> ExportProof:
    """Return the proof in ``out`` if it is that of the same export, which was killed after its last step.

    Raises:
        RunError: ``out`` is another folder.
    """
    with suppress(RunError):
        proof = read_json_record(out / PROOF_FILE, ExportProof, "")
        if proof.digest == digest and all((out / file.file).is_file() for file in proof.files):
            return proof
    raise RunError(f"{out}: exists already; delete it, or choose another --out")


def _make_job(
    saved: SavedClassifier, path: Path, decision: Decision | None, texts: Sequence[str], folder: Path
) -> ExportJob | QuestionsExportJob:
    """Load the classifier in ``path`` and predict the texts of the proof.

    If there are few texts, half of them prove the export, and it may fit on the rest.
    """
    decisions = 1 if decision is not None else max(1, len(saved.recipe.task.decisions))
    most = min(PROOF_ROWS, max(FEWEST_PROOF_ROWS, PROOF_ANSWERS // decisions))
    count = min(most, (len(texts) + 1) // 2)
    texts, more_texts = texts[:count], texts[count : count + MORE_ROWS]
    if not saved.recipe.task.questions:
        predictor = Predictor.load(path, student=False)
        return ExportJob(saved, predictor, predictor.predict(texts), texts, more_texts, folder)
    asked = QuestionPredictor.load(path, student=False)
    task = asked.recipe.task
    singles = [
        Predictor(asked.recipe.of_decision(own), engine, calibrator)
        for own, engine, calibrator in zip(task.decisions, asked.engines, asked.calibrators, strict=True)
    ]

    def job(own: Decision, single: Predictor, predictions: Predictions) -> ExportJob:
        return ExportJob(
            classifier_of_decision(saved, own), single, predictions, texts, more_texts, folder, own.address
        )

    if decision is not None:
        single = singles[task.decisions.index(decision)]
        return job(decision, single, single.predict(texts))
    predictions = asked.predict(texts).decisions
    return QuestionsExportJob(saved, asked, tuple(map(job, task.decisions, singles, predictions)))


def _make_student_job(saved: SavedClassifier, texts: Sequence[str], folder: Path) -> StudentExportJob:
    """Load the student of a classifier, which answers the texts of the proof in no time."""
    task = saved.recipe.task
    calibrators = load_calibrators(saved.folder, task.decisions) if task.questions else [load_calibrator(saved)]
    return StudentExportJob(
        saved, require_cascade(saved), tuple(calibrators), (*texts[:PROOF_ROWS], *HARD_TEXTS), folder
    )


def _write_and_prove(exporter: ExportFormat, job: _AnyJob, out: Path, tolerance: float, digest: str) -> ExportProof:
    """Write the files and ``proof.json`` to the folder of ``job``, which is to become ``out``.

    Raises:
        ModelError: more labels differ than ``tolerance`` allows.
        OutputError: the files cannot be written.
    """
    if isinstance(exporter, QuestionExporter) and isinstance(job, QuestionsExportJob):
        write, prove = partial(exporter.write_questions, job), partial(exporter.prove_questions, job)
    elif isinstance(exporter, StudentExporter) and isinstance(job, StudentExportJob):
        write, prove = partial(exporter.write_student, job), partial(exporter.prove_student, job)
    elif isinstance(exporter, Exporter) and isinstance(job, ExportJob):
        write, prove = partial(exporter.write, job), partial(exporter.prove, job)
    else:
        raise TypeError(f"{type(exporter).__name__}: cannot export a {type(job).__name__}")
    with writing(out):
        write()
    files = prove()
    source, differ = "classifier", "differ from the classifier's own in"
    if exporter.holds_student:
        source, differ = "student", "differ from the student's own in"
    count, worst = len(job.texts), max(files, key=lambda proof: proof.flipped)
    if worst.flipped > tolerance * count:
        labels = f"answers to {worst.question}" if worst.question else "labels"
        raise ModelError(
            f"{out}: not exported: {worst.flipped} of {count} {labels} {differ} "
            f"{worst.file}, more than the tolerance of {tolerance:.1%}. {_remedy(worst, source)}"
        )
    proof = ExportProof(
        kind=exporter.name,
        texts=count,
        flipped=worst.flipped,
        largest_difference=max(proof.largest_difference for proof in files),
        tolerance=tolerance,
        files=files,
        not_carried=tuple(step for step in job.saved.recipe.task.clean if step not in exporter.carried_steps),
        digest=digest,
    )
    write_json_record(job.folder / PROOF_FILE, proof)
    return proof


def _remedy(proof: FileProof, source: str) -> str:
    """Say how sure the classifier or student itself is of the labels that differ in a file, and what to do."""
    prefers = f"prefers its own labels by at most {proof.flipped_margin:.2g} in probability"
    if proof.flipped_margin > _NEAR_TIE:
        return f"The {source} {prefers}; raise --tolerance to accept the difference"
    return (
        f"The {source} is undecided between these labels: it {prefers}, so rounding decides. Train it longer, or "
        "raise --tolerance to accept the difference"
    )


def _proof_texts(saved: SavedClassifier, data: str | Path | None) -> Sequence[str]:
    """Return texts of the table ``data``, or of the validation split of the run."""
    if data is None:
        try:
            corpus = load_labelled(saved.recipe)
        except DataError as fault:
            raise DataError(f"{fault}; or give a table of texts for the proof with --data") from None
        return (corpus.validation or corpus.train).texts
    table = open_table(Path(data), TextColumns.of(saved.recipe.data))
    first = next(iter(table.locate_blocks(PROOF_ROWS + MORE_ROWS, lambda _: None)), None)
    if first is None or not (texts := readable_texts(table.read_block(first))):
        raise DataError(f"{data}: holds no texts for the proof; give another table with --data")
    return texts
