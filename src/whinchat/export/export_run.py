"""Export a classifier, and keep the files only if they are proved to answer like the classifier."""

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from scipy.special import softmax

from whinchat.data.formats.table_registry import open_table
from whinchat.data.sources import load_corpus
from whinchat.errors import DataError, ModelError, RunError
from whinchat.export.export_registry import DEFAULT_TOLERANCE, find_exporter
from whinchat.export.exporter import ExportJob, ExportProof
from whinchat.hub.client import fetch_classifier
from whinchat.inference.prediction_columns import readable_texts
from whinchat.inference.predictor import Predictions, Predictor
from whinchat.storage.atomic import write_json
from whinchat.storage.locate import SavedClassifier, find_classifier

# Most texts that an export is proved on, and most further texts that an exporter may fit something on.
PROOF_ROWS, MORE_ROWS = 500, 500


def export_run(
    run: str | Path,
    format: str,
    out: str | Path,
    *,
    data: str | Path | None = None,
    tolerance: float = DEFAULT_TOLERANCE,
) -> ExportProof:
    """Write the classifier of ``run`` in another format to the new folder ``out``, with its proof in ``proof.json``.

    Args:
        run: a run folder, an adapter folder, or OWNER/NAME on the hub.
        format: "merged", one model without an adapter; "classifier", for ``AutoModelForSequenceClassification``;
            "gguf", for llama.cpp and Ollama; "onnx", the classifier as a graph for onnxruntime; or a format that
            ``register_export`` added.
        out: the folder to create. It appears only after the proof has succeeded.
        data: a table with texts for the proof; the validation split of the run by default.
        tolerance: share of labels that may differ from the classifier's own.

    Raises:
        RunError: ``run`` holds no classifier, ``out`` exists already, or there is no such format.
        DataError: there are no texts for the proof.
        ModelError: the format cannot hold this classifier, or too many labels differ.
    """
    exporter, out = find_exporter(format), Path(out)
    if out.exists():
        raise RunError(f"{out}: exists already; delete it, or choose another --out")
    path = fetch_classifier(run)
    saved = find_classifier(path)
    texts = _proof_texts(saved, None if data is None else Path(data))
    predictor = Predictor.load(path)
    texts = [text for text in texts if not predictor.engine.template.fault(text)]
    # If there are few texts, half of them prove the export, and the exporter may fit on the rest.
    count = min(PROOF_ROWS, (len(texts) + 1) // 2)
    exporter.check(predictor)
    scores = predictor.score(texts[:count])
    unproved = out.with_name(f".{out.name}.unproved")
    shutil.rmtree(unproved, ignore_errors=True)
    unproved.mkdir(parents=True)
    try:
        job = ExportJob(
            saved=saved,
            predictor=predictor,
            predictions=Predictions.from_scores(scores, predictor.calibrator),
            decision_shares=softmax(predictor.calibrator.decision_scores(scores), axis=1),
            texts=texts[:count],
            more_texts=texts[count : count + MORE_ROWS],
            folder=unproved,
        )
        exporter.write(job)
        files = exporter.prove(job)
        worst = max(files, key=lambda proof: proof.flipped)
        if worst.flipped > tolerance * count:
            raise ModelError(
                f"{out}: not exported: {worst.flipped} of {count} labels differ from the classifier's own in "
                f"{worst.file}, more than the tolerance of {tolerance:.1%}; raise --tolerance to accept the difference"
            )
        export_proof = ExportProof(
            kind=exporter.name,
            texts=count,
            flipped=worst.flipped,
            largest_difference=max(proof.largest_difference for proof in files),
            tolerance=tolerance,
            files=files,
            not_carried=tuple(step for step in saved.recipe.task.clean if step not in exporter.carried_steps),
        )
        write_json(unproved / "proof.json", asdict(export_proof))
        unproved.rename(out)
    finally:
        shutil.rmtree(unproved, ignore_errors=True)
    return export_proof


def _proof_texts(saved: SavedClassifier, data: Path | None) -> Sequence[str]:
    """Return texts of the table ``data``, or of the validation split of the run."""
    if data is None:
        try:
            corpus = load_corpus(saved.recipe)
        except DataError as fault:
            raise DataError(f"{fault}; or give a table of texts for the proof with --data") from None
        return (corpus.validation or corpus.train).texts
    table = open_table(data, saved.recipe.data.text_column)
    first = next(iter(table.locate_blocks(PROOF_ROWS + MORE_ROWS, lambda _: None)), None)
    if first is None or not (texts := readable_texts(table.read_block(first))):
        raise DataError(f"{data}: holds no texts for the proof; give another table with --data")
    return texts
