"""An export format from outside, as docs/how-to/add-an-export.md describes: the labels' rows of the output layer."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from tests.helpers import tiny_models, tiny_questions
from tests.helpers.exports import texts_file
from whinchat.errors import ModelError, RunError
from whinchat.export.export_registry import export_names, find_exporter, register_export, unregister_export
from whinchat.export.export_run import export_run
from whinchat.export.exporter import (
    ClassifierOutline,
    Exporter,
    ExportJob,
    FileProof,
    QuestionExporter,
    QuestionsExportJob,
)
from whinchat.export.question_prompts import QuestionPrompts
from whinchat.inference.predictor import Predictor


class LabelHeadExporter(Exporter):
    """Writes the output layer's row of each label, for programs that compute the hidden state themselves."""

    name = "label-head"

    def check(self, outline: ClassifierOutline) -> None:
        if any(len(answer) > 1 for answer in outline.template.answers):
            raise ModelError("label-head: an answer takes several tokens; export merged instead")

    def write(self, job: ExportJob) -> None:
        tokens = [token for (token,) in job.predictor.engine.template.answers]
        rows = job.predictor.engine.model.get_output_embeddings().weight[tokens].detach().float().numpy()
        save_file({"head": np.ascontiguousarray(rows)}, job.folder / "head.safetensors")
        job.predictor.calibrator.save(job.folder)

    def prove(self, job: ExportJob) -> tuple[FileProof, ...]:
        head = load_file(job.folder / "head.safetensors")["head"]  # (K, H)
        scores = hidden_states(job.predictor, job.texts) @ head.T
        calibrator, labels = job.predictor.calibrator, job.predictions.labels
        named = [labels[index] for index in calibrator.probabilities(scores).argmax(axis=1)]
        return (job.compare("head.safetensors", "numpy", named, calibrator.probabilities(scores)),)


def hidden_states(predictor: Predictor, texts: Sequence[str]) -> np.ndarray:
    """Return the last hidden state of each prompt, (N, H)."""
    states = []
    with torch.inference_mode():
        for prompt in predictor.engine.template.encode(texts):
            output = predictor.engine.model(input_ids=torch.tensor([prompt.ids]), output_hidden_states=True)
            states.append(output.hidden_states[-1][0, -1].float().numpy())
    return np.array(states)


@pytest.fixture
def registered() -> Iterator[None]:
    register_export(LabelHeadExporter())
    yield
    unregister_export("label-head")


@pytest.mark.usefixtures("registered")
def test_a_registered_format_is_exported_with_its_proof(trained: Path, tmp_path: Path) -> None:
    assert export_names()[-1] == "label-head"
    proof = export_run(trained, "label-head", tmp_path / "out", data=texts_file(tmp_path))
    assert (proof.kind, proof.texts, proof.flipped) == ("label-head", 20, 0)
    assert proof.largest_difference < 1e-4
    names = ["calibration.json", "head.safetensors", "proof.json"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    stored = json.loads((tmp_path / "out" / "proof.json").read_text(encoding="utf-8"))
    assert stored["files"][0]["reader"] == "numpy"
    head = load_file(tmp_path / "out" / "head.safetensors")["head"]
    assert head.shape[0] == len(tiny_models.ONE_TOKEN)
    assert np.isfinite(head).all()


@pytest.mark.usefixtures("registered")
def test_of_questions_it_holds_one(tiny_llama: Path, tmp_path: Path) -> None:
    asked = tiny_questions.finished_run(tiny_llama)
    with pytest.raises(RunError, match="label-head: holds one decision, and this classifier makes 5; choose one with"):
        export_run(asked, "label-head", tmp_path / "out")
    proof = export_run(asked, "label-head", tmp_path / "out", question="quality")
    assert (proof.files[0].question, proof.flipped) == ("quality", 0)
    assert proof.largest_difference < 1e-4


class PromptsExporter(QuestionExporter):
    """Writes ``prompts.json`` alone, for programs that have the model already."""

    name = "prompts"

    def write(self, job: ExportJob) -> None:
        raise ModelError("prompts: has no use for one decision")

    def prove(self, job: ExportJob) -> tuple[FileProof, ...]:
        return ()

    def write_questions(self, job: QuestionsExportJob) -> None:
        QuestionPrompts.of(job.predictor).save(job.folder)

    def prove_questions(self, job: QuestionsExportJob) -> tuple[FileProof, ...]:
        proofs = []
        for own, decision in zip(job.decisions, QuestionPrompts.read(job.folder).decisions, strict=True):
            read = decision.predictions(own.predictor.score(own.texts))
            proofs.append(own.compare("prompts.json", "numpy", read.label_names, read.probabilities))
        return tuple(proofs)


def test_a_question_exporter_holds_all(tiny_llama: Path, tmp_path: Path) -> None:
    register_export(PromptsExporter())
    try:
        proof = export_run(tiny_questions.finished_run(tiny_llama), "prompts", tmp_path / "out")
    finally:
        unregister_export("prompts")
    assert [file.question for file in proof.files] == ["mood", "rain", "quality", "tags/train", "tags/sea"]
    assert proof.largest_difference < 1e-5


@pytest.mark.usefixtures("registered")
def test_a_name_is_taken_once() -> None:
    with pytest.raises(ValueError, match="export format 'label-head' exists already; choose another name"):
        register_export(LabelHeadExporter())


def test_an_unregistered_format_is_refused(trained: Path, tmp_path: Path) -> None:
    names = "merged, classifier, gguf, onnx"
    with pytest.raises(RunError, match=rf"there is no format 'label-head'; choose from {names}"):
        export_run(trained, "label-head", tmp_path / "out")
    with pytest.raises(RunError, match="did you mean gguf"):
        find_exporter("ggfu")
    assert all(find_exporter(name).name == name for name in export_names())
