"""Export, then proof: what was written must answer as the classifier does, or it does not stay.

N: texts. K: labels.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax

from whinchat.data.formats.table_registry import open_table
from whinchat.data.sources import load_corpus
from whinchat.errors import DataError, ModelError, RunError
from whinchat.export import TOLERANCE, ExportFormat, onnx
from whinchat.export.gguf_reader import gguf_reader_name, gguf_scores
from whinchat.export.gguf_writer import require_convertible, write_gguf
from whinchat.export.merged import merge, write_merged
from whinchat.export.modelfile import frame_of, modelfile, require_quotable
from whinchat.export.onnx import require_onnx
from whinchat.export.sequence_classifier import classifier_predictions, require_single_tokens, write_classifier
from whinchat.hub.client import fetch_classifier
from whinchat.inference.predictor import Predictions, Predictor
from whinchat.recipe.task import Cleaning
from whinchat.storage.atomic import write_json, write_text
from whinchat.storage.locate import SavedClassifier, find_classifier

Floats = NDArray[np.float64]

# Texts that the proof is made on, and further ones that an export may learn from.
PROOF_ROWS, MORE_ROWS = 500, 500


@dataclass(frozen=True)
class FileProof:
    """How the answers of one file lie beside the classifier's own.

    Attributes:
        file: its name in the folder.
        reader: what answered from it, with its release.
        flipped: texts with another label.
        largest_difference: of any two probabilities.
        flipped_uncalibrated: texts with another label where nothing but the model decides, as in free generation; None
            where the decision is part of the file.
    """

    file: str
    reader: str
    flipped: int
    largest_difference: float
    flipped_uncalibrated: int | None = None


@dataclass(frozen=True)
class ExportProof:
    """How an export's answers lie beside the classifier's own.

    Attributes:
        kind: what was exported.
        texts: N that both answered.
        flipped: of these, with another label; by the file with the most.
        largest_difference: of any two probabilities, in any file.
        tolerance: share of flipped labels up to which an export stays.
        files: the same for each file.
        not_carried: steps of ``task.clean`` that the export leaves to whoever uses it.
    """

    kind: ExportFormat
    texts: int
    flipped: int
    largest_difference: float
    tolerance: float
    files: tuple[FileProof, ...]
    not_carried: tuple[str, ...] = ()


@dataclass(frozen=True)
class ExportJob:
    """What every kind is written from and proved on.

    Attributes:
        found: what is exported.
        predictor: the same in memory.
        predictions: those of ``predictor`` for ``texts``.
        decided: shares whose largest is the label answered with, (N, K): what one softmax can say of a decision.
        texts: N of the proof.
        more: others, to learn from.
        folder: where to write.
    """

    found: SavedClassifier
    predictor: Predictor
    predictions: Predictions
    decided: Floats
    texts: Sequence[str]
    more: Sequence[str]
    folder: Path

    def proof(
        self, file: str, reader: str, labels: Sequence[str], shares: Floats, own: Floats, plain: int | None = None
    ) -> FileProof:
        """The proof of ``file``, which said ``labels`` and ``shares`` (N, K) where the classifier has ``own``."""
        flipped = sum(label != own_label for label, own_label in zip(labels, self.predictions.label_names, strict=True))
        return FileProof(file, reader, flipped, float(np.abs(shares - own).max()), plain)


def export_run(
    run: Path, kind: ExportFormat, out: Path, *, data: Path | None = None, tolerance: float = TOLERANCE
) -> ExportProof:
    """Write the classifier in ``run`` as ``kind`` into the new folder ``out``, with its proof beside it.

    Args:
        run: a run folder, an adapter's, or OWNER/NAME on the hub.
        kind: merged, one model without an adapter; classifier, for ``AutoModelForSequenceClassification``; gguf, for
            llama.cpp and Ollama; onnx, the classifier as a graph for onnxruntime.
        out: where to; nothing is there before the proof holds.
        data: a table with texts to prove it on; the run's own validation split by default.
        tolerance: share of labels that may flip.

    Raises:
        RunError: something is at ``out``. DataError: no texts. ModelError: the proof does not hold, or this classifier
            cannot be had as ``kind``.
    """
    if out.exists():
        raise RunError(f"{out}: is there already; delete it, or choose another --out")
    run = fetch_classifier(run)
    found = find_classifier(run)
    texts = _texts(found, data)
    # Half of a few texts, so that the other half is left to learn from.
    count = min(PROOF_ROWS, (len(texts) + 1) // 2)
    proved, more = texts[:count], texts[count : count + MORE_ROWS]
    predictor = Predictor.load(run)
    check, write, carried = _KINDS[kind]
    check(predictor)
    scores = predictor.score(proved)
    decided: Floats = softmax(predictor.calibrator.weighed(scores), axis=1)
    work = out.with_name(f".{out.name}.unproved")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        job = ExportJob(
            found, predictor, Predictions.from_scores(scores, predictor.calibrator), decided, proved, more, work
        )
        files = write(job)
        worst = max(files, key=lambda one: one.flipped)
        proof = ExportProof(
            kind,
            count,
            worst.flipped,
            max(one.largest_difference for one in files),
            tolerance,
            files,
            tuple(step for step in found.recipe.task.clean if step not in carried),
        )
        if worst.flipped > tolerance * count:
            raise ModelError(
                f"{out}: not exported: {worst.flipped} of {count} labels differ from the classifier's own in "
                f"{worst.file}, more than the tolerance of {tolerance:.1%}; raise --tolerance if you can live with that"
            )
        write_json(work / "proof.json", asdict(proof))
        work.rename(out)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return proof


def _check_nothing(predictor: Predictor) -> None:
    """Every classifier can be had as one model."""


def _merged(job: ExportJob) -> tuple[FileProof, ...]:

    model, backbone = merge(job.found)
    write_merged(model.to(job.predictor.engine.plan.torch_dtype), backbone, job.found, job.folder)
    job.predictor.calibrator.save(job.folder)
    made = Predictor.load(job.folder)
    predictions = made.predict(job.texts)
    reader = f"whinchat {version('whinchat')}"
    return (
        job.proof(
            "model.safetensors",
            reader,
            predictions.label_names,
            predictions.probabilities,
            job.predictions.probabilities,
        ),
    )


def _check_classifier(predictor: Predictor) -> None:

    require_single_tokens(predictor.engine.template)


def _classifier(job: ExportJob) -> tuple[FileProof, ...]:

    _write_classifier(job, job.predictor.engine.plan.torch_dtype)
    reader = f"transformers {version('transformers')}"
    return (job.proof("model.safetensors", reader, *classifier_predictions(job.folder, job.texts), job.decided),)


def _check_onnx(predictor: Predictor) -> None:

    require_onnx()
    _check_classifier(predictor)


def _onnx(job: ExportJob) -> tuple[FileProof, ...]:

    _write_classifier(job, torch.float32)
    onnx.to_onnx(job.folder)
    return (job.proof(onnx.FILE, onnx.onnx_reader(), *onnx.onnx_predictions(job.folder, job.texts), job.decided),)


def _write_classifier(job: ExportJob, dtype: torch.dtype) -> None:

    model, backbone = merge(job.found)
    template, calibrator = job.predictor.engine.template, job.predictor.calibrator
    write_classifier(model, backbone, template, calibrator, job.more or job.texts, job.folder, dtype)


def _check_gguf(predictor: Predictor) -> None:

    engine = predictor.engine
    require_quotable(predictor.recipe.task.instruction)
    frame_of(
        engine.template, require_convertible(engine.model.config, engine.template, predictor.recipe.backbone.model)
    )


def _gguf(job: ExportJob) -> tuple[FileProof, ...]:

    recipe, template = job.found.recipe, job.predictor.engine.template
    model, backbone = merge(job.found)
    family = require_convertible(model.config, template, backbone.source.name)
    frame = frame_of(template, family)
    paths = write_gguf(model, template, family, frame.chat_template, recipe.name, job.folder)
    write_text(job.folder / "Modelfile", modelfile(template, frame, recipe.name, paths[-1].name))
    # For those who read logits: the decision is not part of the file.
    job.predictor.calibrator.save(job.folder)
    del model, backbone
    proofs = []
    for path in paths:
        scores = gguf_scores(path, frame, job.predictor, job.texts)
        predictions = Predictions.from_scores(scores, job.predictor.calibrator)
        plain = int((scores.argmax(axis=1) != job.predictions.label_indices).sum())
        own, names = job.predictions.probabilities, predictions.label_names
        proofs.append(job.proof(path.name, gguf_reader_name(), names, predictions.probabilities, own, plain))
    return tuple(proofs)


# For each kind: what to check before anything is written, what writes and answers, and the steps of task.clean that
# whoever uses it need not do.
_KINDS: dict[
    ExportFormat,
    tuple[Callable[[Predictor], None], Callable[[ExportJob], tuple[FileProof, ...]], tuple[Cleaning, ...]],
] = {
    "merged": (_check_nothing, _merged, get_args(Cleaning)),
    "classifier": (_check_classifier, _classifier, ("spaces",)),
    "gguf": (_check_gguf, _gguf, ()),
    "onnx": (_check_onnx, _onnx, ("spaces",)),
}


def _texts(found: SavedClassifier, data: Path | None) -> Sequence[str]:
    """Of the table ``data``, or of the run's validation split."""
    if data is not None:
        table = open_table(data, found.recipe.data.text_column)
        block = table.read(next(table.places(PROOF_ROWS + MORE_ROWS, lambda _: None)))
        texts: Sequence[str] = [text for text, fault in zip(block.texts, block.faults, strict=True) if not fault]
    else:
        try:
            corpus = load_corpus(found.recipe)
        except DataError as fault:
            raise DataError(f"{fault}; or name a table of texts to prove the export on with --data") from None
        texts = (corpus.validation or corpus.train).texts
    if not texts:
        raise DataError(f"{data}: holds no texts to prove the export on")
    return texts
